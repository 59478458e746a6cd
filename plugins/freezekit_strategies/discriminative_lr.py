"""`discriminative-lr`: one learning rate for each stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from freezekit import FreezePlan, Strategy, hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freezekit import Backbone


@dataclass(frozen=True)
class DiscriminativeLR(Strategy):
    """Train early stages more slowly than late ones.

    Give either `decay`, or both `low` and `high`. With `decay`, the head has multiplier 1, and each
    stage has `decay` times the multiplier of the next stage. With `low` and `high`, multipliers
    rise geometrically from the stem to the head. A stage with a multiplier below `freeze_below` is
    frozen.

    Weights: trained, except in stages below `freeze_below`. Running statistics and randomness:
    live, except in those stages. Without `freeze_below` it saves neither memory nor time.

    Source: Howard and Ruder, ULMFiT, arXiv 1801.06146.

    Example:
        >>> from freezekit import load_backbone, plan
        >>> model = load_backbone("torchvision:resnet18", device="meta")
        >>> decided = plan(model, "discriminative-lr:decay=0.5")
        >>> decided.lr_scales["conv1.weight"], decided.lr_scales["layer4.0.conv1.weight"]
        (0.03125, 0.5)
    """

    name: ClassVar[str] = "discriminative-lr"
    summary: ClassVar[str] = "a learning rate per stage, falling from the head to the stem"

    decay: Annotated[
        float | None, "multiplier per stage back from the head, above 0, at most 1"
    ] = None
    low: Annotated[float | None, "multiplier of the stem; needs high"] = None
    high: Annotated[float | None, "multiplier of the head; needs low"] = None
    freeze_below: Annotated[float, "freeze stages with a smaller multiplier"] = 0.0

    def __post_init__(self) -> None:
        spread = (self.low is not None, self.high is not None)
        if (self.decay is not None) == any(spread) or any(spread) != all(spread):
            raise ValueError("give either decay, as in 'decay=0.8', or both low and high")
        if self.decay is not None and not 0 < self.decay <= 1:
            raise ValueError(f"decay is {self.decay}, expected a number above 0, at most 1")
        if self.freeze_below < 0:
            raise ValueError(f"freeze_below is {self.freeze_below}, expected 0 or more")
        if self.low is not None and self.high is not None and not 0 < self.low <= self.high:
            raise ValueError(f"low={self.low}, high={self.high}: expected 0 < low <= high")

    def plan(self, backbone: Backbone) -> FreezePlan:
        """Give each stage its multiplier, or freeze it.

        Raises:
            StagingError: The model cannot be staged.
        """
        stages = backbone.stages
        scales = dict(zip(stages, self._scales(len(stages)), strict=True))
        slow = [stage for stage in stages if scales[stage] < self.freeze_below]
        frozen = {name for stage in slow for name in stage.parameters}
        return FreezePlan(
            frozen,
            backbone.inside(frozen, slow),
            lr_scales={
                name: scales[stage]
                for stage in stages
                if stage not in slow
                for name in stage.parameters
            },
        )

    def _scales(self, count: int) -> list[float]:
        """Return one multiplier per stage, from the stem to the head."""
        if self.decay is not None:
            return [self.decay ** (count - 1 - i) for i in range(count)]
        assert self.low is not None  # __post_init__ checks that low and high are given
        assert self.high is not None
        steps = max(count - 1, 1)
        return [self.low * (self.high / self.low) ** (i / steps) for i in range(count)]


@hookimpl
def freezekit_strategies() -> Iterable[type[Strategy]]:
    """Return the strategy of this module."""
    return [DiscriminativeLR]
