"""Candidates as points: what each costs, and what it reaches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezekit.report.formatting import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from freezekit.sweep.records import Estimate, Sweep, SweepRow


@dataclass(frozen=True)
class Cost:
    """A cost of a training: its name, its axis, and how a row has it."""

    name: str
    label: str
    axis: str
    read: Callable[[SweepRow], tuple[float, float, float] | None]


@dataclass(frozen=True)
class Point:
    """A row at its cost, with the ends of both intervals."""

    number: int
    row: SweepRow
    x: float
    x_low: float
    x_high: float
    metric: Estimate

    @property
    def name(self) -> str:
        """Its label, fit to be shown."""
        return plain(self.row.label).replace("\n", " ")


def _exact(value: float | None) -> tuple[float, float, float] | None:
    return None if value is None else (value, value, value)


def _seconds(row: SweepRow) -> tuple[float, float, float] | None:
    found = row.train_seconds
    if found is None:
        return None
    low, high = found.low, found.high
    if low is None or high is None or low <= 0:
        return _exact(found.value)
    return found.value, low, high


COSTS = (
    Cost("gflops", "GFLOP", "GFLOP of a training", lambda row: _exact(row.gflops)),
    Cost(
        "peak_bytes",
        "memory",
        "predicted peak memory, MiB",
        lambda row: _exact(None if row.peak_bytes is None else row.peak_bytes / 2**20),
    ),
    Cost("train_seconds", "time", "time of a training, s", _seconds),
)


def stepped(found: Sequence[Point], higher_is_better: bool) -> tuple[Point, ...]:
    """Return the points that are better than all cheaper ones, from the cheapest on."""
    sign = 1 if higher_is_better else -1
    best: list[Point] = []
    for point in sorted(found, key=lambda p: (p.x, -sign * p.metric.value)):
        if not best or sign * point.metric.value > sign * best[-1].metric.value:
            best.append(point)
    return tuple(best)


def cost_points(sweep: Sweep, cost: Cost) -> tuple[Point, ...]:
    """Return the rows that are done and have both the metric and the cost."""
    found = []
    for at, row in enumerate(sweep.rows, 1):
        costs = cost.read(row)
        if row.status == "ok" and row.metric is not None and costs is not None and costs[0] > 0:
            found.append(Point(at, row, *costs, row.metric))
    return tuple(found)
