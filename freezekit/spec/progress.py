"""How far a training has come: the record by which a schedule decides."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from freezekit.errors import ScheduleError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from freezekit.spec.training_time import TrainingTime

Observation = Literal["gradients", "weights", "outputs", "rate", "metrics"]
"""What a schedule can ask to observe."""

Data = None | bool | int | float | str | list["Data"] | dict[str, "Data"]
"""What JSON can hold: the state of a schedule."""

_ROUNDING = 1e-9
"""Of a time in epochs that is a sum or a product."""
_BEFORE_THE_END = 1 - 2**-20
"""The largest share of an epoch that has not ended. One nearer to 1 is rounded up in a sum with
`epoch`, or is within the tolerance of `periods`."""


@dataclass(frozen=True)
class Observed:
    """What was observed of a training, by the names of stages; empty where it was not asked for.

    Under a process group of several ranks, each number is the same on all of them.

    Attributes:
        gradient_norms: With "gradients": L2 norm of the gradient that the last optimizer step used,
            for each stage that is trained, after unscaling and clipping.
        weight_norms: With "gradients" or "weights": L2 norm of the trained parameters after it.
        update_norms: With "weights": L2 norm of what it changed in the trained parameters.
        output_changes: With "outputs": how much the output of each stage for a fixed batch has
            changed since the last observation: the mean squared difference of the similarities of
            its samples, as in Egeria.
        rate: With "rate": the largest learning rate of the optimizer's groups, without multipliers.
    """

    gradient_norms: Mapping[str, float] = field(default_factory=dict)
    weight_norms: Mapping[str, float] = field(default_factory=dict)
    update_norms: Mapping[str, float] = field(default_factory=dict)
    output_changes: Mapping[str, float] = field(default_factory=dict)
    rate: float | None = None


@dataclass(frozen=True)
class Progress:
    """How far a training has come.

    A schedule is asked before the first step, after each optimizer step, and after each epoch.

    Attributes:
        step: Optimizer steps done in all.
        epoch: Epochs that have ended.
        step_in_epoch: Optimizer steps done since the last epoch ended.
        epochs: Epochs of the whole run, 1.5 where it ends within one; None where it is not known.
        steps_per_epoch: Optimizer steps of an epoch; None where it is not known.
        metrics: What was reported for the epoch that has just ended; else empty. Under several
            ranks, their mean.
        observed: What the schedule asked to observe.
        state: What the schedule returned as its state, {} at first.

    Example:
        >>> from freezekit import TrainingTime
        >>> now = Progress(step=150, epoch=1, step_in_epoch=50, epochs=4, steps_per_epoch=100)
        >>> now.position, now.share
        (1.5, 0.375)
        >>> now.has_reached(TrainingTime.parse("1.5ep")), now.has_reached(TrainingTime(50, "%"))
        (True, False)
    """

    step: int = 0
    epoch: int = 0
    step_in_epoch: int = 0
    epochs: float | None = None
    steps_per_epoch: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    observed: Observed = field(default_factory=Observed)
    state: Mapping[str, Data] = field(default_factory=dict)

    @property
    def position(self) -> float:
        """Epochs done, with the share of the present one if `steps_per_epoch` is known.

        It reaches a whole number when an epoch ends, and not at its last step: epochs may have
        fewer or more steps than expected.
        """
        if self.steps_per_epoch is None:
            return float(self.epoch)
        return self.epoch + min(self.step_in_epoch / self.steps_per_epoch, _BEFORE_THE_END)

    @property
    def share(self) -> float:
        """Share of the whole run that is done, from 0 to 1.

        Raises:
            ScheduleError: The number of epochs is not known.
        """
        return min(self.position / self._known_epochs("a share of the run"), 1.0)

    def has_reached(self, time: TrainingTime) -> bool:
        """Tell whether a time has come.

        Raises:
            ScheduleError: It needs a total that is not known.
        """
        if time.unit == "step":
            return self.step >= time.amount
        return self.position >= self.in_epochs(time) - _ROUNDING  # 1.36 x 100 steps is above 136

    def periods(self, length: TrainingTime) -> int:
        """Return how many periods of a length have passed in whole.

        Raises:
            ScheduleError: It needs a total that is not known, or the length is 0.
        """
        if not length.amount:
            raise ScheduleError(f"a period of {length} never ends; give a longer one")
        if length.unit == "step":
            return int(self.step // length.amount)
        return int(self.position / self.in_epochs(length) + _ROUNDING)  # 0.3 / 0.1 is below 3

    def in_epochs(self, time: TrainingTime) -> float:
        """Return a time in epochs from the beginning.

        Raises:
            ScheduleError: It needs a total that is not known.
        """
        if time.unit == "step":
            return time.amount / self._known_steps(time)
        epochs = time.amount
        if time.unit == "%":
            # the product first: 7 / 100 * 100 is above 7
            epochs = time.amount * self._known_epochs(f"the time {time}") / 100
        if epochs % 1 and self.steps_per_epoch is None:
            self._known_steps(time)
        return epochs

    def _known_epochs(self, what: str) -> float:
        if self.epochs is None:
            raise ScheduleError(
                f"{what} needs the number of epochs of the run: give epochs=, as in "
                "follow(schedule, optimizer, epochs=10, steps_per_epoch=len(loader))"
            )
        return self.epochs

    def _known_steps(self, time: TrainingTime) -> int:
        if self.steps_per_epoch is None:
            raise ScheduleError(
                f"the time {time} needs the number of optimizer steps of an epoch: give "
                "steps_per_epoch=, such as len(loader)"
            )
        return self.steps_per_epoch
