"""Which phases a schedule has, and how many epochs reach them. Nothing is trained here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezekit.errors import ScheduleError
from freezekit.schedules.asking import ask
from freezekit.spec.grammar import format_named
from freezekit.spec.progress import Progress
from freezekit.spec.strategy import Strategy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from freezekit.backbone.view import Backbone
    from freezekit.freezing.plan import FreezePlan
    from freezekit.plugins.registry import Registry
    from freezekit.spec.progress import Data
    from freezekit.spec.schedule import Decision, Schedule

STEPS = 100
"""The most optimizer steps of a verification whose epochs are not given."""

OBSERVING_EPOCHS = 10
"""Epochs for a schedule that observes steps: what it does cannot be known without training."""

_ASKED = 600
"""How often a schedule is asked to learn all of its phases: at two steps, in 200 epochs."""


@dataclass(frozen=True)
class Begin:
    """The beginning of a phase.

    Attributes:
        given: The plan of the phase, as the schedule gives it.
        at: When.
    """

    given: str | Strategy | FreezePlan
    at: Progress


def still_metrics(schedule: Schedule) -> dict[str, float]:
    """Return metrics that never improve, for each name that a schedule may want.

    A schedule says nowhere which metric it reads. As `on-plateau` does, it has the name as an
    option.

    Example:
        >>> from freezekit import load_registry
        >>> still_metrics(load_registry().schedule("on-plateau:metric=accuracy"))["accuracy"]
        1.0
    """
    options = [value for value in vars(schedule).values() if isinstance(value, str)]
    return dict.fromkeys(("loss", *options), 1.0)


def text_of(given: str | Strategy | FreezePlan | None) -> str:
    """Return the text of a plan as a schedule gives it, "" if it has none."""
    if isinstance(given, Strategy):
        return format_named(given)
    return given if isinstance(given, str) else ""


def phases_of(
    schedule: Schedule, backbone: Backbone, registry: Registry, epochs: int, steps_per_epoch: int
) -> tuple[Begin, ...]:
    """Return the phases of a training in which metrics never improve and nothing is observed.

    Unlike `freezekit.schedules.preview`, it makes no plan: it is called for many numbers of epochs.

    Raises:
        ScheduleError: The schedule does not fit into the training.
        PluginError: It failed.
    """
    phases: list[Begin] = []
    metrics = still_metrics(schedule)
    last: Decision | None = None
    state: Mapping[str, Data] = {}
    given: str | Strategy | FreezePlan | None = None
    for at, is_end, is_before_step in _times(epochs, steps_per_epoch):
        now = Progress(
            at.step,
            at.epoch,
            at.step_in_epoch,
            epochs,
            steps_per_epoch,
            metrics=metrics if is_end else {},
            state=state,
        )
        last = ask(schedule, backbone, now, registry, last)
        state = state if last.state is None else last.state
        given = given if last.plan is None else last.plan
        if is_before_step and given is not None and (not phases or given != phases[-1].given):
            phases.append(Begin(given, at))
    return tuple(phases)


def fewest_epochs(
    schedule: Schedule, backbone: Backbone, registry: Registry, steps_per_epoch: int, known: int
) -> int:
    """Return the fewest epochs that reach the most phases, within `STEPS`.

    Args:
        schedule: The schedule.
        backbone: What it decides about.
        registry: Where its plugin is looked up for messages.
        steps_per_epoch: Optimizer steps of an epoch.
        known: How many phases there are in a long training.

    Raises:
        ScheduleError: The schedule fits into no such training.
    """
    limit = max(1, STEPS // steps_per_epoch)
    if schedule.observes - {"metrics"}:
        return min(OBSERVING_EPOCHS, limit)
    best, longest, error = 0, 0, None
    for epochs in range(1, limit + 1):
        try:
            found = len(phases_of(schedule, backbone, registry, epochs, steps_per_epoch))
        except ScheduleError as refused:
            error = refused
            continue
        if found > longest or not best:
            best, longest = epochs, found
        if longest >= known:
            break
    if not best:
        raise ScheduleError(
            f"{error}. Unless the number of epochs is given, verification trains for at most "
            f"{STEPS} steps; give that number, or earlier times"
        ) from error
    return best


def all_phases(
    schedule: Schedule, backbone: Backbone, registry: Registry, steps_per_epoch: int
) -> tuple[Begin, ...]:
    """Return the phases of a long training; () if they are not known without training."""
    if schedule.observes - {"metrics"}:
        return ()
    epochs = max(1, _ASKED // (steps_per_epoch + 1))
    try:
        return phases_of(schedule, backbone, registry, epochs, steps_per_epoch)
    except ScheduleError:  # the schedule does not fit into this training; it may into the one meant
        return ()


def _times(epochs: int, steps_per_epoch: int) -> Iterator[tuple[Progress, bool, bool]]:
    """Yield when a schedule is asked, whether an epoch ends there, and whether a step follows."""
    yield Progress(), False, True
    step = 0
    for epoch in range(epochs):
        for i in range(1, steps_per_epoch + 1):
            step += 1
            yield Progress(step, epoch, i), False, i < steps_per_epoch
        yield Progress(step, epoch + 1), True, epoch + 1 < epochs
