"""What each module holds for the backward pass, and what it takes to compute it again."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate
from sys import maxsize
from typing import TYPE_CHECKING

from freezekit.budget.calls import CallRecorder
from freezekit.budget.moments import Moments
from freezekit.budget.records import Candidate, Observation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from freezekit.budget.calls import Call
    from freezekit.budget.fake_step import FakeStep
    from freezekit.budget.moments import Moment

FLOPS_PER_BYTE = 10
"""FLOPs in the time in which one byte is written. CPUs and GPUs do 5 to 15; so norms and activation
functions, which have no counted FLOPs, are not free."""

LEAST_FREED = 1 / 512
"""The part of all that is held that a module has to free to be a candidate. More candidates would
make the search long, and each that is computed again costs some 0.1 ms of Python."""

_END = maxsize


def observe(step: FakeStep) -> Observation:
    """Run a step as it is, and one forward in stock PyTorch, and note what modules hold.

    Candidates are modules that are called once, hold something, and can run again: they change
    neither their arguments nor their own attributes, nobody changes their arguments later, and
    nobody's hooks inside them would run twice.
    """
    with step.tracked() as (tracker, counter), Moments(tracker) as moments:
        start = tracker.born
        with CallRecorder(step.model, tracker, counter, stock=False) as plain:
            outputs = step.forward()
        returned = tracker.numbers_of(outputs)
        alive = tracker.alive_bytes()
        held = {n: size for n, size in alive.items() if n >= start and n not in returned}
        moments.held = held
        step.backward(outputs)
    step.clear()
    with (
        step.tracked() as (tracker, counter),
        CallRecorder(step.model, tracker, counter, stock=True) as stock,
    ):
        step.forward()
    tree = _Tree(plain.calls, stock.calls, held, start)
    peaks = _Peaks(moments.found, step.state_bytes)
    roots = tree.inside("")
    first = roots[0].begin if roots else _END
    return Observation(
        tuple(_candidates(roots, _END, peaks)), peaks.within(0, first), sum(held.values())
    )


@dataclass(frozen=True)
class _Node:
    """A module that can be computed again; its storages are born between `begin` and `end`."""

    name: str
    inside: list[_Node]
    begin: int
    end: int
    freed_bytes: int
    again_bytes: int
    cost: int


class _Tree:
    """Makes nodes of the calls of two runs."""

    def __init__(
        self, calls: dict[str, Call], stock: dict[str, Call], held: dict[int, int], start: int
    ) -> None:
        self._calls, self._stock, self._held, self._start = calls, stock, held, start
        self._numbers = sorted(held)
        self._sums = [0, *accumulate(held[number] for number in self._numbers)]

    def inside(self, outer: str) -> list[_Node]:
        """Return the outermost nodes within a module."""
        found: list[_Node] = []
        for name, call in self._calls.items():
            if call.outer == outer:
                inner = self.inside(name)
                own = self._node(call, inner)
                found += inner if own is None else [own]
        return found

    def _node(self, call: Call, inside: list[_Node]) -> _Node | None:
        stock = self._stock.get(call.name)
        if stock is None or not stock.is_repeatable:
            return None
        held_before = self._held_before(call.begin)
        saved = self._held_before(call.end) - held_before
        passed_on = sum(self._held.get(n, 0) for n in call.outputs if n >= call.begin)
        held_for_it = sum(
            size for n, size in call.inputs.items() if n >= self._start and n not in self._held
        )
        freed = saved - passed_on - held_for_it
        if freed <= 0 or freed < LEAST_FREED * self._sums[-1]:
            return None
        again = held_before + held_for_it + sum(stock.saved.values())
        cost = stock.flops + FLOPS_PER_BYTE * stock.written_bytes
        return _Node(call.name, inside, call.begin, call.end, freed, again, cost)

    def _held_before(self, number: int) -> int:
        """Return the bytes held of the storages that were born before one."""
        return self._sums[bisect_left(self._numbers, number)]


class _Peaks:
    """Looks for the highest of the moments within a part of the step."""

    def __init__(self, moments: list[Moment], state_bytes: int) -> None:
        self._moments, self._state_bytes = moments, state_bytes

    def within(self, begin: int, end: int) -> int:
        """Return the most of all."""
        totals = (m.total_bytes for m in self._moments if begin <= m.at < end)
        return self._state_bytes + max(totals, default=0)

    def beside(self, begin: int, end: int) -> int:
        """Return the most in the backward pass, without what autograd holds."""
        beside = (m.other_bytes for m in self._moments if m.other_bytes and begin <= m.at < end)
        return self._state_bytes + max(beside, default=0)


def _candidates(nodes: list[_Node], end: int, peaks: _Peaks) -> Iterator[Candidate]:
    followed_by = [*(node.begin for node in nodes[1:]), end]
    for node, following in zip(nodes, followed_by, strict=False):
        first = node.inside[0].begin if node.inside else node.end
        yield Candidate(
            node.name,
            tuple(_candidates(node.inside, node.end, peaks)),
            node.freed_bytes,
            peaks.within(node.begin, first),
            peaks.within(node.end, following),
            node.again_bytes + peaks.beside(node.begin, node.end),
            node.cost,
        )
