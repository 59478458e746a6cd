"""Learning rates of a sweep: the grid that pilots try, and the one that they choose; no torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from freezekit.errors import TrainingError
from freezekit.sweep.comparing import last_figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.sweep.records import Settings, SweepRow
    from freezekit.training.records import Trial

_USUAL = {"adamw": 1e-3, "adam": 1e-3, "sgd": 1e-2}
STEP = 5.0  # between rates: the best one differs by this much between `full` and `head-only`

HOLD_OUT = 0.2
"""The part of the training images that pilots are validated on. Validation images choose none."""


def default_grid(optimizer: str) -> tuple[float, ...]:
    """Return three rates around the usual one of an optimizer.

    Example:
        >>> default_grid("adamw"), default_grid("sgd")
        ((0.0002, 0.001, 0.005), (0.002, 0.01, 0.05))
    """
    usual = _USUAL.get(optimizer, 1e-3)
    return (usual / STEP, usual, usual * STEP)


def read_lr(text: str, optimizer: str) -> tuple[float | Literal["auto", "grid"], tuple[float, ...]]:
    """Return what `--lr` says: the rate of all candidates, and the grid that pilots try.

    Args:
        text: "grid", "auto", a number, or numbers with commas.
        optimizer: For the default grid.

    Raises:
        TrainingError: It is none of these.

    Example:
        >>> read_lr("3e-4", "adamw"), read_lr("auto", "adamw")
        ((0.0003, ()), ('auto', ()))
        >>> read_lr("1e-3,1e-4", "adamw")
        ('grid', (0.0001, 0.001))
        >>> read_lr("fast", "adamw")
        Traceback (most recent call last):
        ...
        freezekit.errors.TrainingError: --lr 'fast' is no learning rate; expected 'grid', ...
    """
    if text == "grid":
        return "grid", default_grid(optimizer)
    if text == "auto":
        return "auto", ()
    try:
        rates = sorted({float(each) for each in text.split(",")})
    except ValueError:
        rates = []
    if not rates or not all(math.isfinite(rate) and 0 < rate <= 1e6 for rate in rates):
        raise TrainingError(
            f"--lr {text!r} is no learning rate; expected 'grid', 'auto', a number above 0 and up "
            "to 1e6 such as 1e-3, or several with commas such as 1e-4,1e-3"
        )
    return (rates[0], ()) if len(rates) == 1 else ("grid", tuple(rates))


PILOT_STEPS = 100
"""With fewer steps of the optimizer, a pilot has all epochs of a trial: the shorter a training, the
larger the rate that is best."""


def pilot_epochs(epochs: int, steps_per_epoch: int, *, is_scheduled: bool = False) -> int:
    """Return the epochs of a pilot: half of those of a trial, or all.

    Half the epochs halve the cost. All are needed where half are few steps, and by a schedule,
    which trains in its later phases what its rate matters for, and has times in epochs.

    Args:
        epochs: Of a trial.
        steps_per_epoch: Steps of the optimizer in an epoch of the pilot.
        is_scheduled: Whether the candidate has a schedule.

    Example:
        >>> pilot_epochs(5, 40), pilot_epochs(5, 4), pilot_epochs(5, 40, is_scheduled=True)
        (3, 5, 5)
    """
    half = (epochs + 1) // 2
    return epochs if is_scheduled or half * steps_per_epoch < PILOT_STEPS else half


def pilot_steps(train_samples: int, batch_size: int) -> int:
    """Return the steps of the optimizer in an epoch of a pilot.

    Example:
        >>> pilot_steps(120, 16)
        6
    """
    return max(1, math.ceil(train_samples * (1 - HOLD_OUT) / batch_size))


def best_rate(pilots: Sequence[Trial], settings: Settings) -> float | None:
    """Return the rate of the best pilot, None where none ended.

    The metric decides; of equal ones the lower loss; then the lower rate.
    """
    sign = 1 if settings.higher_is_better else -1
    able = []
    for pilot in pilots:
        figure = last_figure(pilot, settings.metric)
        if pilot.status == "ok" and figure is not None and pilot.recipe.lr != "auto":
            loss = last_figure(pilot, "loss")
            able.append((-sign * figure, math.inf if loss is None else loss, pilot.recipe.lr))
    return min(able)[2] if able else None


def grid_notes(rows: Sequence[SweepRow], settings: Settings) -> tuple[str, ...]:
    """Return a note of the rows whose rate is an end of the grid: a rate beyond may be better."""
    if len(settings.lr_grid) < 2:
        return ()
    ends = {"lowest": settings.lr_grid[0], "highest": settings.lr_grid[-1]}
    found = []
    for word, rate in ends.items():
        names = [row.label for row in rows if row.pilots and row.lr == rate]
        if names:
            found.append(
                f"the {word} rate of the grid, {rate:g}, was the best for {', '.join(names)}: a "
                f"{'lower' if word == 'lowest' else 'higher'} one may be better; --lr names others"
            )
    return tuple(found)
