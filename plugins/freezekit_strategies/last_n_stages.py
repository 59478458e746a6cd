"""`last-n-stages`: train the last stages of the body and the head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from freezekit import FreezePlan, PlanError, Strategy, hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freezekit import Backbone


@dataclass(frozen=True)
class LastNStages(Strategy):
    """Train the last `n` stages of the body, necks and the head; freeze the stages before them.

    It freezes a prefix as `first-n-stages` does, but `n` counts the trained stages. So the same `n`
    trains as many stages in a model of any depth.

    Weights: the prefix frozen. Running statistics: fixed in the prefix. Randomness: off in the
    prefix.

    The backward pass stops at the prefix, so activations and gradients of the prefix are not kept.

    Source: Yosinski et al., How Transferable Are Features, arXiv 1411.1792.

    Example:
        >>> from freezekit import load_backbone, plan
        >>> model = load_backbone("torchvision:resnet18", device="meta")
        >>> frozen = plan(model, "last-n-stages:n=1").frozen
        >>> sorted({n.split(".")[0] for n, _ in model.named_parameters() if n not in frozen})
        ['fc', 'layer4']
    """

    name: ClassVar[str] = "last-n-stages"
    summary: ClassVar[str] = "train the last n stages of the body and the head"

    n: Annotated[int, "stages of the body to train; 0 trains only necks and the head"]

    def __post_init__(self) -> None:
        if self.n < 0:
            raise ValueError(f"n is {self.n}, expected 0 or more")

    @property
    def trains_only(self) -> bool:
        """Whether it names what is trained, and freezes all the rest."""
        return True

    def plan(self, backbone: Backbone) -> FreezePlan:
        """Freeze the stages before the last `n`.

        Raises:
            PlanError: The body has fewer stages than `n`, or nothing is left to train.
            StagingError: The model cannot be staged.
        """
        body = backbone.body
        model = type(backbone.model).__name__
        if self.n > len(body):
            raise PlanError(
                f"last-n-stages: n is {self.n}, but {model} has {len(body)} body stages; "
                f"give n from 0 to {len(body)}"
            )
        prefix = [backbone.stem, *body[: len(body) - self.n]]
        frozen = {name for stage in prefix for name in stage.parameters}
        return FreezePlan(frozen, backbone.inside(frozen, prefix))


@hookimpl
def freezekit_strategies() -> Iterable[type[Strategy]]:
    """Return the strategy of this module."""
    return [LastNStages]
