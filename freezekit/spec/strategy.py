"""`Strategy`: what a plugin author reads first."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from freezekit.backbone.view import Backbone
    from freezekit.freezing.plan import FreezePlan


class Strategy:
    """Options in, a plan out; never touches the model.

    Subclass it as a frozen dataclass. The fields are the options: their types are int, float, bool,
    str, Literal, Optional and tuples of these; help text is given with `Annotated`. A check that
    spans options belongs in `__post_init__` and raises ValueError.

    Attributes:
        name: How a spec calls it, in lower case with hyphens.
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

    name: ClassVar[str]
    summary: ClassVar[str]

    def plan(self, backbone: Backbone) -> FreezePlan:
        """Return what to freeze in this backbone: deterministic, and without any side effect.

        Raises:
            PlanError: The backbone cannot take this strategy; the message says why.
            StagingError: The strategy needs stages and the backbone has none.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement plan()")
