"""`surgical`: train consecutive stages and the head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from freezekit import FreezePlan, PlanError, Strategy, hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freezekit import Backbone, Stage


@dataclass(frozen=True)
class Surgical(Strategy):
    """Train one block of consecutive stages, and the head.

    Weights: all other stages frozen, including necks. Running statistics: fixed in frozen stages.
    Randomness: off in frozen stages.

    Stages before the block keep no activations and need no backward pass. The gradient passes
    through frozen stages after the block, and their convolutions keep their inputs.

    Helps if the new data differs from the pretraining in a way that one part of the network can
    correct: the first layers for corrupted images (`stages=first`), the middle for classes that
    look different, the last for new classes (`stages=last`).

    Source: Lee et al., Surgical Fine-Tuning Improves Adaptation to Distribution Shifts, arXiv
    2210.11466.

    Example:
        >>> from freezekit import load_backbone, plan
        >>> model = load_backbone("torchvision:resnet18", device="meta")
        >>> frozen = plan(model, "surgical:stages=2-3,head=false").frozen
        >>> sorted({n.split(".")[0] for n, _ in model.named_parameters() if n not in frozen})
        ['layer2', 'layer3']
    """

    name: ClassVar[str] = "surgical"
    summary: ClassVar[str] = "train one block of stages and the head, freeze the rest"

    stages: Annotated[
        str, "stem; first (stem and first body stage); last; or body stages such as 2 or 1-2"
    ]
    head: Annotated[bool, "train the head too"] = True

    def __post_init__(self) -> None:
        first, dash, last = self.stages.partition("-")
        numbers = first.isdecimal() and (last.isdecimal() if dash else True)
        if self.stages not in ("stem", "first", "last") and not numbers:
            raise ValueError(
                f"stages is {self.stages!r}, expected stem, first, last, a number of a body stage "
                "such as 2, or a range such as 1-2"
            )
        if numbers and not 1 <= int(first) <= int(last or first):
            raise ValueError(
                f"stages is {self.stages!r}, expected first and last body stage in rising order, "
                "counted from 1, such as 1-2"
            )

    @property
    def trains_only(self) -> bool:
        """Whether it names what is trained, and freezes all the rest."""
        return True

    @property
    def trains_head(self) -> bool:
        """Whether it means to train the head."""
        return self.head

    def plan(self, backbone: Backbone) -> FreezePlan:
        """Freeze all stages except the block and the head.

        Raises:
            PlanError: The model has no such stages.
            StagingError: The model cannot be staged.
        """
        trained = self._block(backbone)
        if self.head:
            trained = (*trained, backbone.head)
        others = [stage for stage in backbone.stages if stage not in trained]
        frozen = {name for stage in others for name in stage.parameters}
        return FreezePlan(frozen, backbone.inside(frozen, others))

    def _block(self, backbone: Backbone) -> tuple[Stage, ...]:
        body = backbone.body
        if self.stages == "stem":
            return (backbone.stem,)
        if self.stages == "first":
            return (backbone.stem, *body[:1])
        first, _, last = self.stages.partition("-")
        start, stop = (len(body),) * 2 if first == "last" else (int(first), int(last or first))
        if not 1 <= start <= stop <= len(body):
            raise PlanError(
                f"surgical: stages is {self.stages!r}, but {type(backbone.model).__name__} has "
                f"{len(body)} body stages"
            )
        return body[start - 1 : stop]


@hookimpl
def freezekit_strategies() -> Iterable[type[Strategy]]:
    """Return the strategy of this module."""
    return [Surgical]
