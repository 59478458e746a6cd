"""Chooses modules to compute again: a knapsack over the tree of candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from freezekit.budget.records import Candidate, Observation

STEPS = 1024
"""Choices that free nearly the same are told apart by this part of what autograd holds. More steps
than these cost time and changed no choice by more than 1 % of its cost."""


class _Partial(NamedTuple):
    """A choice among the candidates up to some point of the forward pass."""

    freed_bytes: int
    cost: int
    chosen: tuple[object, ...]  # pairs of what was chosen before and a name: adding one is cheap


def choose(observed: Observation, limit_bytes: int) -> tuple[str, ...] | None:
    """Return the modules that cost least to compute again, so that no moment exceeds a limit.

    A module is computed again as a whole, or some of the modules inside it are. What is chosen
    before a module in the forward pass is not held while its backward runs. What is chosen after it
    makes no difference then, as that is freed already.

    The result is exact but for the grid of `STEPS`. The peak is an estimate (`Candidate`); the
    caller predicts the peak that the choice leads to.

    Args:
        observed: The step.
        limit_bytes: For the whole step.

    Returns:
        Names in the order of the forward pass; None if no choice is within the limit.

    Example:
        >>> from freezekit.budget.records import Candidate, Observation
        >>> first = Candidate("0", (), 30, 50, 0, again_peak_bytes=60, cost=9)
        >>> second = Candidate("1", (), 35, 100, 0, again_peak_bytes=100, cost=7)
        >>> step = Observation((first, second), peak_bytes=10, held_bytes=90)
        >>> choose(step, 100), choose(step, 70), choose(step, 60), choose(step, 50)
        ((), ('0',), None, None)
    """
    if observed.peak_bytes > limit_bytes:
        return None
    search = _Search(limit_bytes, max(1, observed.held_bytes // STEPS))
    found = search.through(observed.candidates, [_Partial(0, 0, ())])
    return _names(min(found, key=lambda each: each.cost)) if found else None


def least_limit(observed: Observation, high: int) -> int:
    """Return the lowest limit within which `choose` finds something, to 0.1 %.

    Args:
        observed: The step.
        high: A limit within which it does.
    """
    low = 0
    while high - low > max(1, high // 1024):
        middle = (low + high) // 2
        if choose(observed, middle) is None:
            low = middle
        else:
            high = middle
    return high


class _Search:
    def __init__(self, limit_bytes: int, grid: int) -> None:
        self._limit, self._grid = limit_bytes, grid

    def through(self, candidates: Sequence[Candidate], front: list[_Partial]) -> list[_Partial]:
        """Return the best choices up to the end of these candidates."""
        for each in candidates:
            kept = self.through(each.inside, self._within(front, each.peak_bytes))
            again = [
                _Partial(
                    before.freed_bytes + each.freed_bytes,
                    before.cost + each.cost,
                    (before.chosen, each.name),
                )
                for before in self._within(front, each.again_peak_bytes)
            ]
            front = self._best(self._within([*kept, *again], each.after_peak_bytes))
        return front

    def _within(self, found: list[_Partial], peak_bytes: int) -> list[_Partial]:
        return [each for each in found if peak_bytes - each.freed_bytes <= self._limit]

    def _best(self, found: Iterable[_Partial]) -> list[_Partial]:
        """Leave out each choice that costs no less than another and frees no more."""
        best: list[_Partial] = []
        most = -1
        for each in sorted(found, key=lambda each: (each.cost, -each.freed_bytes)):
            if each.freed_bytes // self._grid > most:
                most = each.freed_bytes // self._grid
                best.append(each)
        return best


def _names(found: _Partial) -> tuple[str, ...]:
    names, rest = [], found.chosen
    while rest:
        before, name = rest
        assert isinstance(before, tuple)
        names.append(str(name))
        rest = before
    return tuple(reversed(names))
