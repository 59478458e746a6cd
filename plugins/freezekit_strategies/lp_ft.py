"""`lp-ft`: linear probing, then fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from freezekit import Decision, Schedule, ScheduleError, TrainingTime, hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freezekit import Backbone, Progress

_AS_IT_IS = Decision()


@dataclass(frozen=True)
class LpFt(Schedule):
    """Train the head alone, then everything at a lower learning rate.

    A new head has random weights, and its first gradients would change good features. So the head
    is trained first. Necks are trained with it.

    Weights: all frozen except the head and necks, until `probe`; then all trained. Running
    statistics: fixed before the head until `probe`, then live. Randomness: off before the head
    until `probe`, then live.

    Until `probe` it saves what `head-only` saves. The peak of the whole run is that of `full`.

    Source: Kumar et al., Fine-Tuning can Distort Pretrained Features and Underperform
    Out-of-Distribution, arXiv 2202.10054. On ten data sets with a shift of distribution, it was 1 %
    better than fine-tuning on data as in training, and 10 % better on shifted data. Here the head
    is trained in the ordinary loop, for a given time and not until it has converged. The defaults
    of `probe` and `rate` are freezekit's own.

    Example:
        >>> from freezekit import Backbone, Progress, load_backbone
        >>> view = Backbone(load_backbone("torchvision:resnet18", device="meta"))
        >>> for epoch in (0, 2):
        ...     decided = LpFt().decide(view, Progress(epoch=epoch, epochs=10))
        ...     print(decided.plan, decided.rates and decided.rates["stem"])
        head-only None
        full 0.1
    """

    name: ClassVar[str] = "lp-ft"
    summary: ClassVar[str] = "the head alone, then everything at a lower rate"

    probe: Annotated[TrainingTime, "how long the head is trained alone"] = TrainingTime(20, "%")
    rate: Annotated[float, "factor of all learning rates after it, above 0"] = 0.1

    def __post_init__(self) -> None:
        if not self.probe.amount or self.probe == TrainingTime(100, "%"):
            raise ValueError(f"probe is {self.probe}, expected longer than 0, and less than all")
        if not 0 < self.rate < float("inf"):
            raise ValueError(f"rate is {self.rate}, expected a finite number above 0")

    def decide(self, backbone: Backbone, progress: Progress) -> Decision:
        """Thaw everything when the time of the head is over.

        Raises:
            StagingError: The model cannot be staged.
            ScheduleError: `probe` needs a total that is not known, or takes the whole run.
        """
        probes = not progress.has_reached(self.probe)
        if progress.state.get("probes") == probes:
            return _AS_IT_IS
        if probes:
            self._check(progress)
            has_neck = any(stage.kind == "neck" for stage in backbone.stages)
            plan = "last-n-stages:n=0" if has_neck else "head-only"
            return Decision(plan, state={"probes": True}, reason=f"the head alone to {self.probe}")
        rates = dict.fromkeys((stage.name for stage in backbone.stages), self.rate)
        return Decision("full", rates, {"probes": False}, reason="everything, at a lower rate")

    def _check(self, progress: Progress) -> None:
        if progress.epochs is None or progress.steps_per_epoch is None:
            return
        if progress.in_epochs(self.probe) >= progress.epochs:
            raise ScheduleError(
                f"lp-ft trains the head alone for {self.probe}, but the training has only "
                f"{progress.epochs:.4g} epoch(s) of {progress.steps_per_epoch} step(s); give a "
                "shorter probe, or the strategy head-only"
            )


@hookimpl
def freezekit_schedules() -> Iterable[type[Schedule]]:
    """Return the schedule of this module."""
    return [LpFt]
