"""`chain-thaw`: the head, then each stage alone, then all together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from freezekit import Decision, Schedule, TrainingTime, hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freezekit import Backbone, Progress

_AS_IT_IS = Decision()


@dataclass(frozen=True)
class ChainThaw(Schedule):
    """Train the head, then each stage alone from the stem to the last one, then all together.

    Necks are trained with the head, in the first phase and in the last. From the second phase on,
    all learning rates have the factor `rate`.

    Weights: all frozen except one stage; all trained in the last phase. Running statistics and
    randomness: live where weights are trained.

    A phase saves what `surgical:stages=2,head=false` saves: stages before the trained one keep no
    activations, and the gradient passes through all stages after it. So the phase of the stem saves
    little memory. The peak of the whole run is that of `full`.

    Source: Felbo et al., DeepMoji, arXiv 1708.00524, with the rates of its code. The evidence is on
    text classification with a recurrent network. There each phase ends by early stopping on
    validation data, the best weights are loaded then, and the optimizer is made anew. Here the
    phases share the run equally or have a given length, and the optimizer stays.

    Example:
        >>> from freezekit import Backbone, Progress, load_backbone
        >>> view = Backbone(load_backbone("torchvision:resnet18", device="meta"))
        >>> for epoch in (0, 1, 2, 6):
        ...     print(ChainThaw().decide(view, Progress(epoch=epoch, epochs=7)).plan)
        head-only
        surgical:stages=stem,head=false
        surgical:stages=1,head=false
        full
    """

    name: ClassVar[str] = "chain-thaw"
    summary: ClassVar[str] = "the head, then each stage alone, then all together"

    every: Annotated[TrainingTime | None, "how long each phase is; none: equal shares"] = None
    rate: Annotated[float, "factor of all learning rates after the first phase"] = 0.1

    def __post_init__(self) -> None:
        if self.every is not None and not self.every.amount:
            raise ValueError(f"every is {self.every}, expected longer than 0, or none")
        if not 0 < self.rate < float("inf"):
            raise ValueError(f"rate is {self.rate}, expected a finite number above 0")

    def decide(self, backbone: Backbone, progress: Progress) -> Decision:
        """Train the part whose turn it is.

        Raises:
            StagingError: The model cannot be staged.
            ScheduleError: A total is not known that `every`, or an equal share, needs.
        """
        # without a list of the turns: this is asked in each step
        alone = sum(s.kind in ("stem", "body") and bool(s.parameters) for s in backbone.stages)
        last = alone + 1
        if self.every is None:
            turn = int(progress.share * (last + 1) + 1e-9)  # 0.3 * 10 may be below 3
        else:
            turn = progress.periods(self.every)
        turn = min(turn, last)
        if progress.state.get("turn") == turn:
            return _AS_IT_IS
        plan, what = _turns(backbone)[turn]
        return Decision(
            plan,
            dict.fromkeys((s.name for s in backbone.stages), self.rate if turn else 1.0),
            {"turn": turn},
            reason=f"turn {turn + 1} of {last + 1}: {what}",
        )


def _turns(backbone: Backbone) -> list[tuple[str, str]]:
    """Return the spec of each phase, and what it trains in words."""
    has_neck = any(stage.kind == "neck" for stage in backbone.stages)
    turns = [("last-n-stages:n=0" if has_neck else "head-only", "the head")]
    if backbone.stem.parameters:
        turns.append(("surgical:stages=stem,head=false", f"{backbone.stem.name} alone"))
    turns += [
        (f"surgical:stages={number},head=false", f"{stage.name} alone")
        for number, stage in enumerate(backbone.body, start=1)
        if stage.parameters
    ]
    return [*turns, ("full", "all together")]


@hookimpl
def freezekit_schedules() -> Iterable[type[Schedule]]:
    """Return the schedule of this module."""
    return [ChainThaw]
