"""How many epochs, seeds and pilots fit into a budget of wall-clock time; no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace

from freezekit.errors import counted
from freezekit.sweep.halving import rungs_of
from freezekit.sweep.learning_rates import PILOT_STEPS, pilot_epochs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.sweep.records import Settings, Sweep

USED = 0.85  # of the budget is planned with: the rest is for what probes did not see
MOST_EPOCHS = 50  # a longer training of pretrained weights seldom gains
FEW_EPOCHS = 3  # fewer show little of what a strategy can do; before, pilots and seeds are given up

EXTENT = "the budget of"
"""How the note begins that says what a budget decided."""
_GOES_ON = " goes on; that of"
_NOW_WITH = "; now it has "


@dataclass(frozen=True)
class Speed:
    """What the probe of a candidate found, in seconds.

    Attributes:
        start: From the start of its process to its first step.
        epoch: One epoch, with its validation.
        is_scheduled: Whether it has a schedule, so that its pilots have all epochs.
        pilot_steps: Steps of the optimizer in an epoch of a pilot.
    """

    start: float
    epoch: float
    is_scheduled: bool = False
    pilot_steps: int = PILOT_STEPS


@dataclass(frozen=True)
class Extent:
    """How much is trained.

    Attributes:
        epochs: Of a trial.
        seeds: Trials of a candidate.
        pilots: Pilots of a candidate; 0 where the usual rate is taken.
        fits: Whether there is time for so much; if not, it is the least that can be asked for.
    """

    epochs: int
    seeds: int
    pilots: int
    fits: bool = True


def seconds_of(extent: Extent, speeds: Sequence[Speed], at_once: int) -> float:
    """Return the predicted seconds of a whole sweep in which nothing is stopped early.

    Example:
        >>> seconds_of(Extent(4, 3, 0), [Speed(1.0, 10.0)], at_once=1)
        129.0
    """
    starts = len(rungs_of(extent.epochs)) + 1
    total = 0.0
    for speed in speeds:
        pilot = pilot_epochs(extent.epochs, speed.pilot_steps, is_scheduled=speed.is_scheduled)
        total += extent.pilots * (speed.start + pilot * speed.epoch)
        total += extent.seeds * (starts * speed.start + extent.epochs * speed.epoch)
    return total / max(1, at_once)


def fitting(seconds: float, asked: Extent, speeds: Sequence[Speed], at_once: int) -> Extent:
    """Return the extent that fits into the seconds that are left.

    The most epochs are taken with all seeds and pilots. Where fewer than `FEW_EPOCHS` fit, pilots
    are given up first, then seeds one by one; two seeds are the least that show a difference. Where
    even so little does not fit, one epoch is trained, and the deadline cuts the rest.

    Args:
        seconds: What is left of the budget.
        asked: Its epochs are the most that are taken.
        speeds: Of all candidates.
        at_once: Trainings at the same time.

    Example:
        >>> speeds = [Speed(1.0, 10.0), Speed(1.0, 5.0)]
        >>> fitting(3600, Extent(50, 3, 3), speeds, 2)
        Extent(epochs=50, seeds=3, pilots=3, fits=True)
        >>> fitting(200, Extent(50, 3, 3), speeds, 1)
        Extent(epochs=3, seeds=3, pilots=0, fits=True)
        >>> fitting(10, Extent(50, 3, 3), speeds, 1)
        Extent(epochs=1, seeds=2, pilots=0, fits=False)
    """
    least = min(asked.seeds, 2)
    choices = [(asked.seeds, asked.pilots)]
    choices += [(seeds, 0) for seeds in range(asked.seeds, least - 1, -1)]
    for few in (FEW_EPOCHS, 1):
        for seeds, pilots in choices:
            for epochs in range(asked.epochs, min(few, asked.epochs) - 1, -1):
                extent = Extent(epochs, seeds, pilots)
                if seconds_of(extent, speeds, at_once) <= USED * seconds:
                    return extent
    return Extent(1, least, 0, fits=False)


def extent_note(found: Extent, asked: Extent, seconds: float) -> str:
    """Return what a budget decided, and what it cut.

    Example:
        >>> extent_note(Extent(3, 2, 0), Extent(50, 3, 3), 300)
        'the budget of 5 min allows 3 epochs; it was cut to 2 seeds and no pilots, so that ...'
        >>> extent_note(Extent(1, 2, 0, fits=False), Extent(50, 3, 3), 20)
        'the budget of 20 s is too short for one epoch of each training; it trains what it can'
    """
    if not found.fits:
        short = "is too short for one epoch of each training; it trains what it can"
        return f"{EXTENT} {duration(seconds)} {short}"
    cut = [counted(found.seeds, "seed")] if found.seeds < asked.seeds else []
    if asked.pilots and not found.pilots:
        cut.append("no pilots, so that all candidates have the usual learning rate")
    said = f"{EXTENT} {duration(seconds)} allows {counted(found.epochs, 'epoch')}"
    return f"{said}; it was cut to {' and '.join(cut)}" if cut else said


def later_note(earlier: str, seconds: float, before: float) -> str:
    """Return the note of a sweep that goes on with another budget.

    Args:
        earlier: The note of the sweep so far.
        seconds: The budget now.
        before: That of the sweep so far.

    Example:
        >>> later_note("the budget of 20 s allows 1 epoch", 300, 20)
        'the budget of 5 min goes on; that of 20 s allows 1 epoch'
        >>> later_note("the budget of 5 min goes on; that of 20 s allows 1 epoch", 600, 300)
        'the budget of 10 min goes on; that of 20 s allows 1 epoch'
    """
    if seconds == before:
        return earlier
    first = earlier.partition(_GOES_ON)[2] or earlier.removeprefix(EXTENT)
    return f"{EXTENT} {duration(seconds)}{_GOES_ON}{first}"


def has_chosen(earlier: Sweep) -> bool:
    """Return whether a sweep goes on with what its budget chose.

    It does not where the budget was too short for anything, or nothing was trained: then a new
    choice costs nothing.
    """
    choice = earlier.settings.budget_choice
    trials = [trial for row in earlier.rows for trial in (*row.pilots, *row.trials)]
    has_trained = any(trial.epochs for trial in trials)
    is_by_budget = earlier.settings.budget_seconds is not None
    return is_by_budget and has_trained and (choice is None or choice.fits)


def going_on(now: Settings, earlier: Sweep) -> tuple[Settings, tuple[str, ...]]:
    """Return the settings of a sweep that goes on with what its budget chose, and notes.

    The epochs stay: a training of another length is another one. Seeds and rates stay too, unless
    others are asked for now than at the beginning.
    """
    before, asked = earlier.settings, now.budget_choice
    assert asked is not None  # both have a budget
    first = before.budget_choice or asked
    changed = []
    if asked.seeds == first.seeds:
        now = replace(now, seeds=before.seeds)
    else:
        changed.append(counted(asked.seeds, "seed"))
    if asked.lr_grid == first.lr_grid:
        now = replace(now, lr_grid=before.lr_grid)
    else:
        changed.append("the learning rates of --lr")
    rungs = rungs_of(before.epochs) if now.rungs else ()
    now = replace(now, epochs=before.epochs, rungs=rungs)
    seconds = now.budget_seconds or 0.0
    notes = [note for note in earlier.notes if note.startswith(EXTENT)]
    notes = [later_note(note, seconds, before.budget_seconds or seconds) for note in notes]
    if changed:
        said = f"{_NOW_WITH}{' and '.join(changed)}"
        notes = [note.partition(_NOW_WITH)[0] + said for note in notes]
    return now, tuple(notes)


def duration(seconds: float) -> str:
    """Return a time as `--budget` takes it.

    Example:
        >>> duration(20), duration(1800)
        ('20 s', '30 min')
    """
    return f"{seconds:.3g} s" if seconds < 120 else f"{seconds / 60:.3g} min"
