"""How much a row's figures changed between two runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezekit.bench.statistics import block_scores, estimate, estimate_change, noise_floor, verdict
from freezekit.results.figures import FIGURES
from freezekit.results.records import CONTROL
from freezekit.results.variant import BASELINE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from freezekit.compare.pairing import Pair
    from freezekit.results.figures import Figure
    from freezekit.results.records import Result, Row, Verdict

COMPARED = tuple(figure for figure in FIGURES if figure.compared)
"""Figures that are deterministic, so that they are compared exactly."""


@dataclass(frozen=True)
class Count:
    """A deterministic figure in both runs; None where a run lacks it."""

    old: int | None
    new: int | None

    @property
    def change(self) -> float | None:
        """By which fraction it changed; None where a figure is missing or the old one was 0."""
        if self.old is None or self.new is None:
            return None
        if self.old == self.new:
            return 0.0
        return self.new / self.old - 1 if self.old else None


@dataclass(frozen=True)
class TimeChange:
    """The new ratio to `full` over the old one, with its 95 % interval."""

    ratio: float
    ci: tuple[float, float] | None
    verdict: Verdict


@dataclass(frozen=True)
class Difference:
    """One row, in both runs.

    Attributes:
        old, new: The row.
        counts: By the name of each figure that is compared exactly. Of the peak None in both where
            one was measured and the other predicted.
        time: None for `full`, and where a run has no step times to compare.
    """

    old: Row
    new: Row
    counts: Mapping[str, Count]
    time: TimeChange | None

    @property
    def label(self) -> str:
        """How the row is called."""
        return self.new.label


def differences(pair: Pair) -> tuple[Difference, ...]:
    """Return how each common row changed.

    Example:
        >>> from freezekit.results.records import Memory, Result, Row, Workload
        >>> from freezekit.compare.pairing import pair
        >>> runs = [
        ...     Result("0.1.0", Workload("timm:resnet18"), {}, (Row("full", memory=Memory(peak)),))
        ...     for peak in (200, 150)
        ... ]
        >>> differences(pair(runs[:1], runs[1:])[0])[0].counts["peak_bytes"].change
        -0.25
    """
    return tuple(_difference(pair, old, new) for old, new in pair.rows)


def _difference(pair: Pair, old: Row, new: Row) -> Difference:
    counts = {f.name: Count(_count(f, pair.old, old), _count(f, pair.new, new)) for f in COMPARED}
    if old.memory.peak_method != new.memory.peak_method:
        counts["peak_bytes"] = Count(None, None)
    time = _time_change(pair, new.label) if new.variant != BASELINE else None
    return Difference(old, new, counts, time)


def _count(figure: Figure, result: Result, row: Row) -> int | None:
    found = figure.read(result, row)
    return found if isinstance(found, int) else None


def _time_change(pair: Pair, label: str) -> TimeChange | None:
    if pair.old.protocol != pair.new.protocol:
        return None
    before, after = _scores(pair.old, label), _scores(pair.new, label)
    if not before or not after:
        return None
    found = estimate_change(before, after)
    return TimeChange(found.ratio, found.ci, verdict(found, _floor(pair)))


def _scores(result: Result, label: str) -> list[float]:
    return block_scores(result.raw, label, BASELINE.label) if result.raw else []


def _floor(pair: Pair) -> float | None:
    """Return the |log ratio| under which no change is claimed: both runs' own noise together."""
    floors = []
    for result in (pair.old, pair.new):
        scores = _scores(result, CONTROL)
        floor = noise_floor(estimate(scores)) if scores else None
        if floor is None:
            return None
        floors.append(floor)
    return math.hypot(*floors)


def common_floor(pair: Pair) -> float | None:
    """Return that noise floor as a ratio less 1, None where a run's noise is unknown."""
    floor = _floor(pair)
    return None if floor is None else math.expm1(floor)
