"""The strategies in a timing run: built, stepped, timed, and dropped when they fail."""

from __future__ import annotations

import gc
import warnings
from contextlib import contextmanager
from itertools import pairwise
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch

from freezekit.bench import workload as workloads
from freezekit.bench.compiling import compile_session, graphs_compiled
from freezekit.bench.design import Design
from freezekit.bench.rows import take_rows
from freezekit.errors import FreezekitError, FreezekitWarning
from freezekit.model.out_of_memory import is_out_of_memory
from freezekit.results.records import CONTROL, DISCARDED_STEPS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from freezekit.bench.phase_plan import PhasePlan
    from freezekit.bench.rows import PrefixForward
    from freezekit.bench.workload import Session
    from freezekit.plugins.registry import Registry
    from freezekit.results.records import Workload
    from freezekit.results.variant import Variant

Event = dict[str, Any]  # Any: one line of JSON
SPLIT = ("forward", "backward", "optimizer")


class TimedStrategies:
    """The strategies that have not failed, and what the current block has measured of them.

    Its methods yield events, as `run_timing` describes them.

    Attributes:
        live: Those that have not failed, by their labels, with the control.
        turns_done: Over all blocks.
    """

    def __init__(
        self,
        workload: Workload,
        variants: Mapping[str, Variant],
        warmup_steps: int,
        registry: Registry | None,
        phases: Mapping[str, PhasePlan],
        compiled_in: str | None,
    ) -> None:
        self.workload = workload
        self.phases = phases
        self.compiled_in = compiled_in
        self.registry = registry
        self.baseline = next(iter(variants))
        self.live = {**variants, CONTROL: variants[self.baseline]}
        self.warmup_steps = warmup_steps
        self.turns_done = 0
        self._start_block(0)

    def _start_block(self, block: int) -> None:
        self.block = block
        self.sessions: dict[str, Session] = {}
        self.warmup: dict[str, list[float]] = {}
        self.order: list[list[str]] = []
        self.steps: list[dict[str, list[float]]] = []
        self.split: dict[str, dict[str, float]] = {}
        self.prefixes: dict[str, PrefixForward] = {}
        self.fill: dict[str, list[float]] = {}
        self.recompiled: set[str] = set()

    def warm_up_process(self) -> Iterator[Event]:
        """Build and step the baseline once and drop it, so that first calls are over."""
        yield from self._attempt(self.baseline, self._build)
        self.tear_down()

    def set_up(self, names: Iterable[str], block: int, design: Design | None) -> Iterator[Event]:
        """Start a block: build and warm up the live ones among the names, in that order."""
        self._start_block(block)
        # Garbage collections between turns skip the objects that are frozen here: they are quick.
        gc.freeze()
        for name in names:
            if name in self.live:
                doing = "compiling" if self.live[name].compiled else "building"
                yield self._progress(f"{doing} {name}", design, left_in_block=None)
                yield from self._attempt(name, self._build)
        gc.freeze()

    def take_turns(self, rounds: Iterable[Iterable[str]], design: Design) -> Iterator[Event]:
        """Give each live one its turn, round by round."""
        turns = [(index, name) for index, names in enumerate(rounds) for name in names]
        for position, (index, name) in enumerate(turns):
            if index == len(self.order):
                self.order.append([])
                self.steps.append({})
            if name not in self.live:
                continue
            yield from self._attempt(name, lambda name: self._take_turn(name, design))
            left = sum(later in self.live for _, later in turns[position + 1 :])
            yield self._progress(f"timing {name}", design, left)

    def take_splits(self, names: Iterable[str]) -> Iterator[Event]:
        """On CUDA, time forward, backward and optimizer separately, in extra steps."""
        if self.workload.device.startswith("cuda"):
            for name in names:
                if name in self.live:
                    yield from self._attempt(name, self._take_split)

    def take_fills(self, names: Iterable[str]) -> Iterator[Event]:
        """Time what filling a cache runs for a batch, of each that takes features."""
        for name in names:
            if name in self.live and name in self.prefixes:
                yield from self._attempt(name, self._take_fill)

    def round_seconds(self) -> float:
        """Return the seconds of one turn of each, from the warm-up steps without the first."""
        return Design.steps_per_turn * sum(
            median(steps[1:] or steps) for name, steps in self.warmup.items() if name in self.live
        )

    def block_event(self) -> Event:
        """Return the event with what the block measured."""
        return {
            "event": "block",
            "block": self.block,
            "order": self.order,
            "steps": self.steps,
            "warmup": self.warmup,
            "split": self.split,
            "fill": self.fill,
            "recompiled": sorted(self.recompiled),
        }

    def tear_down(self) -> None:
        """Free all that the block built, and end the freezing of the garbage collector."""
        self.sessions.clear()
        self.prefixes.clear()
        if any(variant.compiled for variant in self.live.values()):
            torch.compiler.reset()  # nothing else frees what was compiled
        gc.unfreeze()
        gc.collect()
        if self.workload.device.startswith("cuda"):
            torch.cuda.empty_cache()

    def _progress(self, doing: str, design: Design | None, left_in_block: int | None) -> Event:
        total = None
        if design is not None:
            in_block = design.rounds * len(self.live)
            left = in_block if left_in_block is None else left_in_block
            left += in_block * (design.blocks - self.block - 1)
            total = self.turns_done + left
        return {"event": "progress", "doing": doing, "done": self.turns_done, "total": total}

    def _attempt(self, name: str, action: Callable[[str], None]) -> Iterator[Event]:
        """Run an action; a strategy that raises is dropped, and the others continue."""
        try:
            action(name)
            return
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything
            status, reason = _describe(error, len(self.sessions))
        # Only now, without the traceback, can its memory be freed.
        del self.live[name]
        self.sessions.pop(name, None)
        self.prefixes.pop(name, None)
        if name == self.baseline:  # the control has nothing to be compared with
            self.live.pop(CONTROL, None)
            self.sessions.pop(CONTROL, None)
        gc.collect()
        if self.workload.device.startswith("cuda"):
            torch.cuda.empty_cache()
        yield {
            "event": "failed",
            "label": name,
            "status": status,
            "error": reason,
            "block": self.block,
        }

    def _build(self, name: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FreezekitWarning)  # the static worker reports them
            variant = self.live[name]
            what = self.phases.get(variant.spec, variant.spec)
            session = workloads.build(self.workload, what, self.registry, lean=variant.lean)
            if variant.cached:
                self.prefixes[name] = take_rows(session)
            if variant.compiled:
                compile_session(session, variant.label, self.compiled_in)
        self.warmup[name] = self._time_steps(session, self.warmup_steps)
        self.sessions[name] = session

    def _take_turn(self, name: str, design: Design) -> None:
        before = graphs_compiled() if self.live[name].compiled else 0
        steps = self._time_steps(self.sessions[name], design.steps_per_turn)
        if self.live[name].compiled and graphs_compiled() > before:
            self.recompiled.add(name)
        self.order[-1].append(name)
        self.steps[-1][name] = steps
        self.turns_done += 1

    def _time_steps(self, session: Session, steps: int) -> list[float]:
        """Return the seconds of each step; drop the gradients, which would take others' memory."""
        seconds = self._time(session.step, steps)
        session.optimizer.zero_grad(set_to_none=True)
        return seconds

    def _take_fill(self, name: str) -> None:
        self.fill[name] = self._time(self.prefixes[name], Design.steps_per_turn)

    def _time(self, action: Callable[[], None], times: int) -> list[float]:
        seconds = []
        with _no_collection():
            for _ in range(times):
                self._synchronise()
                started = perf_counter()
                action()
                self._synchronise()
                seconds.append(round(perf_counter() - started, 9))
        return seconds

    def _take_split(self, name: str) -> None:
        """Time the parts of a few extra steps by CUDA events. They are not among measured steps."""
        session = self.sessions[name]
        parts: list[list[float]] = []
        with _no_collection():
            for _ in range(Design.steps_per_turn):
                marks = [_cuda_mark() for _ in range(len(SPLIT) + 1)]
                session.optimizer.zero_grad(set_to_none=True)
                marks[0].record()
                loss = session.loss()
                marks[1].record()
                torch.autograd.backward(loss)
                marks[2].record()
                session.optimizer.step()
                marks[3].record()
                self._synchronise()
                parts.append([a.elapsed_time(b) / 1000 for a, b in pairwise(marks)])  # from ms
        session.optimizer.zero_grad(set_to_none=True)
        kept = parts[DISCARDED_STEPS:]
        self.split[name] = {
            part: round(median(step[i] for step in kept), 9) for i, part in enumerate(SPLIT)
        }

    def _synchronise(self) -> None:
        if self.workload.device.startswith("cuda"):
            torch.cuda.synchronize(self.workload.device)


def _cuda_mark() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Collect garbage before, never during; restore the caller's setting afterwards."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _describe(error: BaseException, in_memory: int) -> tuple[str, str]:
    """Return the status ("oom" or "error") and the reason in one line."""
    text = (str(error).strip().splitlines() or [""])[0]
    if is_out_of_memory(error):
        beside = f" while timed beside {in_memory} other models in memory" if in_memory else ""
        return "oom", f"out of memory{beside}: {text or type(error).__name__}"
    if isinstance(error, FreezekitError):
        return "error", text
    return "error", f"{type(error).__name__}: {text}" if text else type(error).__name__
