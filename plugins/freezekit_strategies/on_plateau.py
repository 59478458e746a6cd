"""`on-plateau`: the next phase when a metric stops improving."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, cast

from freezekit import Decision, Schedule, ScheduleError, hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freezekit import Backbone, Progress

_AS_IT_IS = Decision()


@dataclass(frozen=True)
class OnPlateau(Schedule):
    """Go to the next phase when a metric has not improved for some epochs.

    Phases are specs, separated by bars without spaces: `phases=head-only|last-n-stages:n=1|full`.
    Report the metric after each epoch. After `patience` epochs without an improvement by more than
    `min_delta`, the next phase begins. The last one goes on to the end of the run.

    With `restore_best`, the weights of the best epoch so far are kept, and each new phase begins
    with them. Then a phase has to be better than all before it; without, each phase begins with no
    best value. The best weights of the last phase are not restored: save them yourself.

    Weights, running statistics and randomness: as the spec of each phase says. It saves what these
    save, and the peak of the whole run is the highest of them. Kept weights take the memory of one
    more copy of the model.

    Source: the phases of the project finetuning-scheduler, which end by early stopping. There the
    training ends after the last phase; here the length of the run is fixed.

    Example:
        >>> from freezekit import Backbone, Progress, load_backbone
        >>> view = Backbone(load_backbone("torchvision:resnet18", device="meta"))
        >>> schedule, state = OnPlateau(patience=1), {}
        >>> for epoch, loss in enumerate((2.3, 0.9, 0.8, 0.8)):
        ...     now = Progress(epoch=epoch, metrics={"loss": loss}, state=state)
        ...     state = (decided := schedule.decide(view, now)).state
        >>> decided.plan, decided.reason
        ('full', 'loss has not improved for 1 epoch(s)')
    """

    name: ClassVar[str] = "on-plateau"
    summary: ClassVar[str] = "the next phase when a metric stops improving"

    phases: Annotated[tuple[str, ...], "the specs of the phases"] = ("head-only", "full")
    metric: Annotated[str, "the name under which the metric is reported"] = "loss"
    mode: Annotated[Literal["min", "max"], "whether lower or higher is better"] = "min"
    patience: Annotated[int, "epochs without an improvement that end a phase"] = 3
    min_delta: Annotated[float, "smaller changes are no improvement"] = 0.0
    restore_best: Annotated[bool, "begin each new phase with the best weights so far"] = False

    def __post_init__(self) -> None:
        if not self.phases:
            raise ValueError("phases is empty, expected specs such as head-only|full")
        if self.patience < 1:
            raise ValueError(f"patience is {self.patience}, expected 1 or more")
        if not 0 <= self.min_delta < math.inf:
            raise ValueError(f"min_delta is {self.min_delta}, expected a finite number from 0 on")

    @property
    def observes(self) -> frozenset[Literal["metrics"]]:
        """What is reported after each epoch."""
        return frozenset({"metrics"})

    def plans(self) -> tuple[str, ...]:
        """Return the specs of all phases."""
        return self.phases

    def decide(self, backbone: Backbone, progress: Progress) -> Decision:  # noqa: ARG002  # the interface
        """Judge the metric of the epoch that has just ended.

        Raises:
            ScheduleError: The metric was not reported.
        """
        state = progress.state
        if not state:
            begin = {"phase": 0, "epoch": progress.epoch, "best": None, "bad": 0}
            return Decision(self.phases[0], state=begin, reason="the first phase")
        phase, bad = cast("int", state["phase"]), cast("int", state["bad"])
        if progress.epoch == state["epoch"] or phase == len(self.phases) - 1:
            return _AS_IT_IS
        value, best = self._reported(progress), cast("float | None", state["best"])
        new = {**state, "epoch": progress.epoch}
        gain = math.inf if best is None else best - value if self.mode == "min" else value - best
        if math.isfinite(value) and gain > self.min_delta:
            new |= {"best": value, "bad": 0}
            return Decision(state=new, keeps_weights=self.restore_best)
        if bad + 1 < self.patience:
            return Decision(state=new | {"bad": bad + 1})
        new |= {"phase": phase + 1, "bad": 0, "best": best if self.restore_best else None}
        return Decision(
            self.phases[phase + 1],
            state=new,
            restores_weights=self.restore_best and best is not None,
            reason=f"{self.metric} has not improved for {self.patience} epoch(s)",
        )

    def _reported(self, progress: Progress) -> float:
        if self.metric in progress.metrics:
            return progress.metrics[self.metric]
        names = ", ".join(map(repr, progress.metrics)) or "nothing"
        raise ScheduleError(
            f"on-plateau needs the metric {self.metric!r} after epoch {progress.epoch}, but "
            f"{names} was reported; report it, or give the name of another one as metric="
        )


@hookimpl
def freezekit_schedules() -> Iterable[type[Schedule]]:
    """Return the schedule of this module."""
    return [OnPlateau]
