"""Learning rates of a sweep: the grid that pilots try, and the one that they choose; no torch."""

from __future__ import annotations

import math
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from freezekit.errors import TrainingError
from freezekit.sweep.comparing import last_figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.sweep.records import Candidate, Settings, SweepRow
    from freezekit.training.records import Trial

_USUAL = {"adamw": 1e-3, "adam": 1e-3, "sgd": 1e-2}
STEP = 5.0  # between rates: the best one differs by this much between `full` and `head-only`

HOLD_OUT = 0.2
"""The part of the training images that pilots are validated on. Validation images choose none."""

HELD_OUT_IMAGES = 100
"""With fewer images, rates are told apart by chance: pilots hold out several parts."""


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


def pilot_epochs(candidate: Candidate, epochs: int) -> int:
    """Return the epochs of a pilot: half of those of a trial, all of a schedule's.

    Half the epochs halve the cost, and move the best rate by less than a step of the grid. A
    schedule trains in its later phases what its rate matters for, and has times in epochs.

    Example:
        >>> from freezekit.sweep.records import Candidate
        >>> pilot_epochs(Candidate("m", "full"), 5)
        3
    """
    return epochs if candidate.schedule else (epochs + 1) // 2


def pilot_parts(settings: Settings, train_samples: int) -> int:
    """Return how many parts pilots hold out, one after the other.

    As many as have `HELD_OUT_IMAGES` together, and no more than have all images together. With a
    budget of time one: more epochs are worth more.

    Example:
        >>> from freezekit.sweep.records import Settings
        >>> [pilot_parts(Settings(5, (0,)), images) for images in (120, 208, 500, 10_000)]
        [5, 3, 1, 1]
        >>> pilot_parts(Settings(5, (0,), budget_seconds=60.0), 120)
        1
    """
    if settings.budget_seconds is not None:
        return 1
    images = max(1.0, HOLD_OUT * train_samples)
    return min(math.ceil(HELD_OUT_IMAGES / images), round(1 / HOLD_OUT))


def best_rate(pilots: Sequence[Trial], settings: Settings) -> float | None:
    """Return the rate of the best pilots, None where no rate has pilots that all ended.

    The metric decides, as the mean over the parts that were held out; of equal ones the lower loss;
    then the lower rate.
    """
    sign = 1 if settings.higher_is_better else -1
    able = []
    for rate in {pilot.recipe.lr for pilot in pilots if pilot.recipe.lr != "auto"}:
        alike = [pilot for pilot in pilots if pilot.recipe.lr == rate]
        figure, loss = _mean(alike, settings.metric), _mean(alike, "loss")
        if figure is not None and all(pilot.status == "ok" for pilot in alike):
            able.append((-sign * figure, math.inf if loss is None else loss, rate))
    return min(able)[2] if able else None


def _mean(pilots: Sequence[Trial], metric: str) -> float | None:
    figures = [last_figure(pilot, metric) for pilot in pilots]
    known = [figure for figure in figures if figure is not None]
    return fmean(known) if len(known) == len(figures) else None


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
