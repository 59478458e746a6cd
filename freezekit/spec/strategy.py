"""`Strategy`: the base class of all strategies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.spec.named import Named

if TYPE_CHECKING:
    from freezekit.backbone.view import Backbone
    from freezekit.freezing.plan import FreezePlan


class Strategy(Named):
    """A strategy decides which parts of a model are frozen. It never changes the model.

    Subclass it as a frozen dataclass. The fields are the options. A field has one of the types int,
    float, bool, str, TrainingTime, Literal, Optional, or a tuple of these; `Annotated` gives its
    help text. Check values in `__post_init__`, and raise ValueError if they are wrong.

    Attributes:
        name: Its name in a spec: lower case, with hyphens.
        summary: One line for `freezekit strategies`.

    Example:
        >>> from dataclasses import dataclass
        >>> from typing import Annotated, ClassVar
        >>> @dataclass(frozen=True)
        ... class BiasOnly(Strategy):
        ...     '''Train biases only.'''
        ...     name: ClassVar[str] = "bias-only"
        ...     summary: ClassVar[str] = "train biases and the head, freeze the rest"
        ...     head: Annotated[bool, "train the whole head too"] = True
        ...     def plan(self, backbone):
        ...         train = {p for p in backbone.parameters if p.endswith("bias")}
        ...         if self.head:
        ...             train.update(backbone.head.parameters)
        ...         return FreezePlan(frozen=backbone.parameters.keys() - train)
    """

    @property
    def trains_only(self) -> bool:
        """Whether it names what is trained, and freezes all the rest.

        The user is warned if `+` joins two such strategies, which trains only what both train.
        """
        return False

    @property
    def trains_head(self) -> bool:
        """Whether it means to train the head, however much it freezes.

        The user is warned if the model has no head with parameters.
        """
        return False

    def plan(self, backbone: Backbone) -> FreezePlan:
        """Return the plan for a backbone. The same backbone gives the same plan.

        The method has no side effects.

        Raises:
            PlanError: The strategy does not fit the backbone; the message says why.
            StagingError: The strategy needs stages, and the backbone has none.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement plan()")
