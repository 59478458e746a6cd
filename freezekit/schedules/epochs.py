"""What the end of an epoch is told, checked, and what it shows."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING

from freezekit.errors import ScheduleError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.optim import Optimizer

    from freezekit.spec.progress import Progress


def epoch_warnings(
    done: Progress, optimizer: Optimizer, stepped: int, unseen_calls: int
) -> Iterator[str]:
    """Yield what cannot be meant: steps that nobody saw, epochs of another length.

    Args:
        done: Progress in the epoch that ends.
        optimizer: That of `follow`.
        stepped: Its steps since the last call of `run.step()`.
        unseen_calls: Calls of `run.step()` in this epoch that no step of it came before.
    """
    if unseen_calls and not done.step_in_epoch:
        yield (
            f"run.step() was called {unseen_calls} time(s) in this epoch, and no step of the "
            f"{type(optimizer).__name__} that follow() was given was seen: the schedule stands "
            "still. Give follow() the optimizer whose step() is called"
        )
    elif done.step and not done.step_in_epoch and not stepped:
        yield (
            "epoch() was called twice without a step of the optimizer between; each call counts as "
            "an epoch"
        )
    expected = done.steps_per_epoch
    is_cut_off = done.epochs is not None and done.epoch + 1 > done.epochs
    if expected is not None and 0 < done.step_in_epoch < expected - 1 and not is_cut_off:
        yield (
            f"this epoch had {done.step_in_epoch} steps, and steps_per_epoch={expected}: times "
            "within an epoch come too late; correct steps_per_epoch"
        )
    if done.epochs is not None and done.epoch >= done.epochs:
        yield (
            f"this training is longer than epochs={done.epochs:.6g}: times in percent, and rates "
            "that fall to the end, were made for that length; correct epochs"
        )


def check_lengths(epochs: object, steps_per_epoch: object) -> None:
    """Refuse lengths of a training that cannot be.

    Raises:
        ScheduleError: The steps are no whole number of at least 1, or the epochs no number above 0,
            or they end within an epoch whose steps are not known.
    """
    is_whole = isinstance(steps_per_epoch, int) and not isinstance(steps_per_epoch, bool)
    if steps_per_epoch is not None and not (is_whole and steps_per_epoch > 0):  # type: ignore[operator]
        raise ScheduleError(
            f"steps_per_epoch is {steps_per_epoch!r}, expected a whole number of at least 1"
        )
    if epochs is None:
        return
    is_number = isinstance(epochs, int | float) and not isinstance(epochs, bool)
    if not (is_number and 0 < epochs < inf):  # type: ignore[operator]
        raise ScheduleError(f"epochs is {epochs!r}, expected a number above 0, such as 10")
    if epochs % 1 and steps_per_epoch is None:  # type: ignore[operator]
        raise ScheduleError(
            f"epochs is {epochs!r}, which ends within an epoch: give steps_per_epoch=, such as "
            "len(loader)"
        )


def checked_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return metrics as floats.

    Raises:
        ScheduleError: They are not numbers by name.
    """
    if not isinstance(metrics, Mapping):
        raise ScheduleError(
            f"the metrics are {metrics!r:.80}, expected numbers by name, such as "
            "epoch({'loss': 0.3})"
        )
    numbers = {}
    for name, value in metrics.items():
        try:
            numbers[name] = float(value)
        except (TypeError, ValueError) as error:
            raise ScheduleError(
                f"the metric {name!r} is {value!r:.80}, expected one number"
            ) from error
    return numbers
