"""`first-n-stages`: freeze the stem and the first stages of the body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from freezekit import FreezePlan, PlanError, Strategy, hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freezekit import Backbone


@dataclass(frozen=True)
class FirstNStages(Strategy):
    """Freeze a prefix of the model: the stem and the first `n` stages of the body.

    Weights: the prefix frozen. Running statistics: fixed in the prefix. Randomness: off in the
    prefix.

    A frozen prefix reduces memory in stock PyTorch: no gradient enters it, so its activations and
    gradients are not kept. Strategies that freeze no prefix keep all activations of a ResNet.

    Source: the usual recipe of detection models, as in torchvision's `trainable_backbone_layers`.

    Example:
        >>> from freezekit import load_backbone, plan
        >>> model = load_backbone("torchvision:resnet18", device="meta")
        >>> sorted({name.split(".")[0] for name in plan(model, "first-n-stages:n=1").frozen})
        ['bn1', 'conv1', 'layer1']
    """

    name: ClassVar[str] = "first-n-stages"
    summary: ClassVar[str] = "freeze the stem and the first n stages of the body"

    n: Annotated[int, "stages of the body to freeze; 0 freezes the stem alone"]

    def __post_init__(self) -> None:
        if self.n < 0:
            raise ValueError(f"n is {self.n}, expected 0 or more")

    def plan(self, backbone: Backbone) -> FreezePlan:
        """Freeze the prefix.

        Raises:
            PlanError: The body has fewer stages than `n`.
            StagingError: The model cannot be staged.
        """
        body = backbone.body
        if self.n and not body:
            raise PlanError(
                f"first-n-stages: n is {self.n}, but {type(backbone.model).__name__} has no body "
                "stages, only a stem and a head; give n=0"
            )
        if self.n > len(body):
            raise PlanError(
                f"first-n-stages: n is {self.n}, but {type(backbone.model).__name__} has "
                f"{len(body)} body stages ({_span(body[0].name, body[-1].name)}); "
                f"give n from 0 to {len(body)}"
            )
        prefix = [backbone.stem, *body[: self.n]]
        frozen = {name for stage in prefix for name in stage.parameters}
        return FreezePlan(frozen, backbone.inside(frozen, prefix))


def _span(first: str, last: str) -> str:
    return first if first == last else f"{first} to {last}"


@hookimpl
def freezekit_strategies() -> Iterable[type[Strategy]]:
    """Return the strategy of this module."""
    return [FirstNStages]
