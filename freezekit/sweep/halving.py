"""Early stopping: which candidates are hopeless after some epochs, as a function of their records.

This is successive halving (Jamieson and Talwalkar 2016) with synchronous rungs: all trials reach
the epoch of a rung before any goes on, and the decision sees the records of all. ASHA (Li et al.
2020) promotes without waiting, so that what it stops depends on which trial came first: on the
engine, on the number of processes, and on what was killed. Here it does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezekit.sweep.comparing import difference, excludes_zero, last_figure
from freezekit.sweep.front import Point, on_front

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from freezekit.sweep.records import Settings
    from freezekit.training.records import Trial

LEAST = 3  # candidates: of fewer, half is no choice


@dataclass(frozen=True)
class Standing:
    """A candidate at a rung.

    Attributes:
        label: Its name.
        trials: One for each seed, all at the epoch of the rung.
        cost: (GFLOP until this epoch, peak bytes), None where it is not known.
        is_kept: Whether it is not stopped in any case: the baseline; a schedule, which has yet to
            train what it is about; one that was trained further by an earlier run.
    """

    label: str
    trials: tuple[Trial, ...]
    cost: tuple[float, float] | None = None
    is_kept: bool = False


def rungs_of(epochs: int) -> tuple[int, ...]:
    """Return the epochs after which hopeless candidates are stopped: a quarter and a half of all.

    Earlier, most of the warm-up and of the cosine is still to come; later, little is saved.

    Example:
        >>> rungs_of(20), rungs_of(5), rungs_of(2), rungs_of(1)
        ((5, 10), (1, 2), (1,), ())
    """
    found = {epochs // 4, epochs // 2} - {0, epochs}
    return tuple(sorted(found))


def hopeless(
    standings: Sequence[Standing], settings: Settings, labels: Sequence[int]
) -> tuple[str, ...]:
    """Return the labels of the candidates that are stopped at a rung.

    A candidate is stopped only if all of this holds:

    - it is not among the better half by the mean of its metric;
    - it is not on the front of accuracy against GFLOP and memory;
    - its difference to the best candidate, paired by seed and by image, excludes 0. With one seed
      there is no interval, and this does not protect;
    - it may be stopped: see `Standing.is_kept`.

    The answer does not depend on the order of the candidates, but for equal means: of these the
    later ones are the worse.

    Args:
        standings: Those that train on; failed ones are left out.
        settings: For the metric.
        labels: Of the validation images.
    """
    sign = 1 if settings.higher_is_better else -1
    means = {each.label: _mean(each.trials, settings.metric) for each in standings}
    known = [each for each in standings if means[each.label] is not None]
    if len(known) < LEAST:
        return ()
    ranked = sorted(known, key=lambda each: -sign * (means[each.label] or 0.0))
    best, kept = ranked[0], (len(ranked) + 1) // 2
    front = _front(known, means, sign)
    return tuple(
        each.label
        for each in ranked[kept:]
        if not each.is_kept and each.label not in front and _is_worse(each, best, settings, labels)
    )


def _is_worse(one: Standing, best: Standing, settings: Settings, labels: Sequence[int]) -> bool:
    found = difference(one.trials, best.trials, settings.metric, labels)
    if found is None or (found.low is None and len(one.trials) == 1):
        return True
    return excludes_zero(found)  # also where seeds that agree give no interval


def _front(known: Sequence[Standing], means: dict[str, float | None], sign: int) -> Collection[str]:
    points = [
        Point(each.label, sign * (means[each.label] or 0.0), each.cost)
        for each in known
        if each.cost is not None
    ]
    unknown = {each.label for each in known if each.cost is None}  # nothing can be said against it
    return {point.label for point in on_front(points)} | unknown


def _mean(trials: Sequence[Trial], metric: str) -> float | None:
    figures = [last_figure(trial, metric) for trial in trials]
    known = [figure for figure in figures if figure is not None]
    return sum(known) / len(known) if known and len(known) == len(figures) else None
