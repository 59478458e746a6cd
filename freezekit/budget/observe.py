"""What each module holds for the backward pass, and what it takes to compute it again."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING

from freezekit.budget.calls import CallRecorder
from freezekit.budget.records import Candidate, Observation

if TYPE_CHECKING:
    from freezekit.budget.calls import Call
    from freezekit.budget.fake_step import FakeStep

FLOPS_PER_BYTE = 10
"""FLOPs in the time in which one byte is written. CPUs and GPUs do 5 to 15; so norms and activation
functions, which have no counted FLOPs, are not free."""

LEAST_FREED = 1 / 512
"""The part of all that is held that a module has to free to be a candidate. More candidates would
make the search long, and each that is computed again costs some 0.1 ms of Python."""


def observe(step: FakeStep) -> Observation:
    """Run a step as it is, and one forward in stock PyTorch, and note what modules hold.

    Candidates are modules that are called once, hold something, and can run again: they change
    neither their arguments nor their own attributes, nobody changes their arguments later, and
    nobody's hooks inside them would run twice.
    """
    with step.tracked() as (tracker, counter):
        start = tracker.born
        with CallRecorder(step.model, tracker, counter, stock=False) as plain:
            outputs = step.forward()
        alive = tracker.alive_bytes()
        returned = tracker.numbers_of(outputs)
        held = {n: size for n, size in alive.items() if n >= start and n not in returned}
        step.backward(outputs)
        peak_bytes = step.peak_bytes(tracker)
    step.clear()
    with (
        step.tracked() as (tracker, counter),
        CallRecorder(step.model, tracker, counter, stock=True) as stock,
    ):
        step.forward()
    total = sum(held.values())
    found = _Candidates(step, plain.calls, stock.calls, held, start)
    return Observation(found.inside(""), max(0, peak_bytes - total), total)


class _Candidates:
    """Makes candidates of the calls of two runs."""

    def __init__(
        self,
        step: FakeStep,
        calls: dict[str, Call],
        stock: dict[str, Call],
        held: dict[int, int],
        start: int,
    ) -> None:
        self._calls, self._stock, self._held, self._start = calls, stock, held, start
        self._numbers = sorted(held)
        self._sums = [0, *accumulate(held[number] for number in self._numbers)]
        self._gradients = [
            (calls[name].begin if name in calls else 0, parameter.nbytes)
            for name, module in step.model.named_modules()
            for parameter in module.parameters(recurse=False)
            if parameter.requires_grad
        ]

    def inside(self, outer: str) -> tuple[Candidate, ...]:
        """Return the outermost candidates within a module."""
        found: list[Candidate] = []
        for name, call in self._calls.items():
            if call.outer == outer:
                inner = self.inside(name)
                own = self._candidate(call, inner)
                found += inner if own is None else (own,)
        return tuple(found)

    def _candidate(self, call: Call, inside: tuple[Candidate, ...]) -> Candidate | None:
        stock = self._stock.get(call.name)
        if stock is None or not stock.is_repeatable:
            return None
        saved = self._until(call.end) - self._until(call.begin)
        passed_on = sum(self._held.get(n, 0) for n in call.outputs if n >= call.begin)
        held_for_it = sum(
            size for n, size in call.inputs.items() if n >= self._start and n not in self._held
        )
        freed = saved - passed_on - held_for_it
        if freed < LEAST_FREED * self._sums[-1]:
            return None
        later = sum(size for begin, size in self._gradients if begin >= call.end)
        return Candidate(
            call.name,
            inside,
            self._until(call.begin),
            self._until(call.end),
            freed,
            held_for_it + sum(stock.saved.values()),
            later,
            stock.flops,
            stock.flops + FLOPS_PER_BYTE * stock.written_bytes,
        )

    def _until(self, number: int) -> int:
        """Return the bytes held of the storages that were born before one."""
        return self._sums[bisect_left(self._numbers, number)]
