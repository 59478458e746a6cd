"""The Pareto front of accuracy against cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Point(NamedTuple):
    """A candidate: what is gained, and what it costs.

    Attributes:
        label: Its name.
        gain: The more the better.
        cost: (GFLOP, peak bytes): the less the better.
    """

    label: str
    gain: float
    cost: tuple[float, ...] | None


def on_front(points: Sequence[Point]) -> tuple[Point, ...]:
    """Return the points that no other one dominates: as good in all, and better in one.

    Points without a cost are left out.

    Example:
        >>> points = [Point("full", 0.9, (10, 10)), Point("half", 0.9, (5, 10)),
        ...           Point("head", 0.7, (1, 1)), Point("bad", 0.6, (2, 2))]
        >>> [point.label for point in on_front(points)]
        ['half', 'head']
    """
    known = [point for point in points if point.cost is not None]
    return tuple(one for one in known if not any(_dominates(other, one) for other in known))


def _dominates(one: Point, other: Point) -> bool:
    if one.cost is None or other.cost is None:
        return False
    here, there = (one.gain, *(-c for c in one.cost)), (other.gain, *(-c for c in other.cost))
    return here != there and all(a >= b for a, b in zip(here, there, strict=True))
