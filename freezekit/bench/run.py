"""One bench run: which processes measure what, and how their events become a result; no torch."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from freezekit import __version__
from freezekit.bench.design import load_warning
from freezekit.bench.environment import available_bytes, cores, environment, load_average
from freezekit.bench.processes import Event, Workers, job_for
from freezekit.bench.resuming import left_to_measure, standing
from freezekit.bench.statistics import append_block, summarise
from freezekit.errors import FreezekitError, ModelError, WorkerError
from freezekit.results.records import (
    CONTROL,
    Flops,
    Memory,
    Outlook,
    Parameters,
    Plugin,
    Raw,
    Result,
    Row,
    StageFigures,
    Workload,
)
from freezekit.results.variant import BASELINE, Variant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from freezekit.plugins.registry import Registry


@dataclass(frozen=True)
class Options:
    """What a bench run is to do beside its workload.

    Attributes:
        variants: What to measure, the baseline first, as `choose` returns it.
        block: Plugins not to load.
        threads: For torch; None for torch's own choice.
        budget_seconds: For the whole run; None for the full protocol, however long it takes.
        static_only: Only the figures that need no run.
        skip_refused: Leave out, with a note, strategies that the model cannot take.
        earlier: Results whose rows need not be measured again.
    """

    variants: tuple[Variant, ...]
    block: tuple[str, ...] = ()
    threads: int | None = None
    budget_seconds: float | None = None
    static_only: bool = False
    skip_refused: bool = False
    earlier: tuple[Result, ...] = ()


@dataclass(frozen=True)
class Doing:
    """What is being done, and how far its phase is; `total` is None where that is not known."""

    phase: str
    what: str
    done: int = 0
    total: int | None = None


class Run:
    """One run, from the first process to the last; `result` is always what is known so far."""

    def __init__(
        self,
        workload: Workload,
        options: Options,
        registry: Registry,
        on_change: Callable[[Result], None],
        on_progress: Callable[[Doing], None],
    ) -> None:
        self._options = options
        self._on_change = on_change
        self._on_progress = on_progress
        self._started = time.monotonic()
        self._registry = registry
        self._standing: dict[Variant, Result] = {}
        self.result = Result(__version__, workload, env=environment())
        self._take(options.variants)

    def measure(self) -> Result:
        """Measure all there is to measure and return the whole result.

        Raises:
            FreezekitError: The model cannot be measured at all, whatever the strategy.
            KeyboardInterrupt: As the user wishes; `result` holds what was measured.
        """
        with Workers() as workers:
            if self._options.earlier and not self._resume(workers):
                return self.result
            self._static(workers)
            if not self._options.static_only:
                self._memory(workers)
                self._timing(workers)
        env = {**self.result.env, "load_after": load_average()}
        self._change(env=env, complete=True)
        return self.result

    # --- the three kinds of worker -----------------------------------------------------------

    def _resume(self, workers: Workers) -> bool:
        """Leave out what earlier runs have measured; tell whether anything is left."""
        phase = "looking up what is measured already"
        self._on_progress(Doing(phase, phase))
        found = Run(self.result.workload, Options(()), self._registry, _ignore, _ignore)
        found._static(workers)
        static_only = self._options.static_only
        asked = self._options.variants
        self._standing = standing(
            asked, self._options.earlier, found.result, static_only=static_only
        )
        left = left_to_measure(asked, self._standing)
        self._take(left)
        return bool(left)

    def _static(self, workers: Workers) -> None:
        variants = [row.variant for row in self.result.rows]
        phase, total, done = "counting memory and FLOPs", len(variants), 0
        self._on_progress(Doing(phase, phase, done, total))
        for event in workers.events(self._job("static", variants)):
            match event["event"]:
                case "environment":
                    self._change(env={**self.result.env, **event["environment"]})
                    self._warn_of_load()
                case "workload":
                    workload = {**event["workload"]}
                    workload["input_shape"] = tuple(workload["input_shape"])
                    self._change(workload=Workload(**workload))
                case "static":
                    outlook = event.get("with_lean")
                    self._update(
                        event["label"],
                        parameters=Parameters(**event["parameters"]),
                        memory=Memory(**event["memory"]),
                        flops=Flops(**event["flops"]) if event["flops"] else None,
                        warnings=tuple(event["warnings"]),
                        with_lean=Outlook(**outlook) if outlook else None,
                        stages=tuple(StageFigures(**stage) for stage in event["stages"]),
                    )
                    done += 1
                case "failed":
                    self._fail(event["label"], event)
                    done += 1
                case "broken":
                    raise _whole_run_failed(event)
            self._on_progress(Doing(phase, phase, done, total))
        if self._options.skip_refused:
            self._leave_out_refused()

    def _memory(self, workers: Workers) -> None:
        """Measure real steps, one process each, two at a time on the CPU: none is timed."""
        phase = "measuring memory"
        live = self._live()
        at_once = 2 if self.result.workload.device == "cpu" and self._two_fit() else 1
        todo: queue.SimpleQueue[Variant] = queue.SimpleQueue()
        found: queue.SimpleQueue[tuple[str, Event | None]] = queue.SimpleQueue()
        for variant in live:
            todo.put(variant)

        def work() -> None:
            while not todo.empty():
                try:
                    variant = todo.get_nowait()
                except queue.Empty:
                    return
                for event in workers.events(self._job("memory", [variant])):
                    found.put((variant.label, event))
                found.put((variant.label, None))

        for _ in range(at_once):
            threading.Thread(target=work, daemon=True).start()
        done = 0
        while done < len(live):
            self._on_progress(Doing(phase, phase, done, len(live)))
            label, event = found.get()
            if event is None:
                done += 1
            elif event["event"] == "memory":
                self._update(label, memory=_merged(self._row(label).memory, event["memory"]))
            else:
                self._fail(label, event)
        self._on_progress(Doing(phase, phase, done, len(live)))

    def _timing(self, workers: Workers) -> None:
        """Time all strategies in one process; the statistics are made anew after each block."""
        live = self._live()
        if BASELINE not in live:
            self._change(notes=(*self.result.notes, "no step times: the baseline `full` failed"))
            return
        job = {
            **self._job("timing", live),
            "budget_seconds": self._options.budget_seconds,
            "spent_seconds": time.monotonic() - self._started,
        }
        phase = "timing steps"
        broken: Event | None = None
        self._on_progress(Doing(phase, phase))
        for event in workers.events(job):
            match event["event"]:
                case "design":
                    self._change(timing_design=event["design"])
                    cut = event["design"]["cut"]
                    if cut and phase == "timing steps":
                        phase = f"timing steps; {cut}"
                case "progress":
                    self._on_progress(Doing(phase, event["doing"], event["done"], event["total"]))
                case "block":
                    self._change(raw=append_block(self.result.raw or Raw(), event))
                case "failed" if event["label"] != CONTROL:
                    self._fail(event["label"], event)
                case "broken":
                    broken = event
        self._summarise(live)
        if broken:
            note = f"step times are missing or fewer: {broken['error']}"
            self._change(notes=(*self.result.notes, note))
            for variant in live:
                if self._row(variant.label).time is None:
                    self._fail(variant.label, broken)

    def _summarise(self, timed: Sequence[Variant]) -> None:
        stock = {v.label: v.stock.label for v in timed if v.lean and v.stock in timed}
        summary = summarise(self.result.raw or Raw(), [v.label for v in timed], stock)
        for label, warnings in summary.warnings.items():
            row = self._row(label)
            self._update(label, time=summary.times.get(label), warnings=(*row.warnings, *warnings))
        self._change(control=summary.control, notes=(*self.result.notes, *summary.notes))

    def interrupted(self) -> Result:
        """Return what was measured, step times of whole blocks too, after an interruption."""
        if self.result.raw and not any(row.time for row in self.result.rows):
            self._summarise(self._live())
        return self.result

    def asked(self) -> tuple[tuple[Result, frozenset[Variant]], ...]:
        """Return what was asked for, once: of earlier runs what stands, and all of this one."""
        mine = frozenset(row.variant for row in self.result.rows)
        stands = [
            (result, frozenset(v for v, run in self._standing.items() if run is result) - mine)
            for result in self._options.earlier
        ]
        found = [*stands, (self.result, mine)]
        return tuple((result, variants) for result, variants in found if variants)

    # --- the result ----------------------------------------------------------------------------

    def _job(self, kind: str, variants: Sequence[Variant]) -> Event:
        options = self._options
        return job_for(kind, self.result.workload, variants, options.block, options.threads)

    def _take(self, variants: Sequence[Variant]) -> None:
        rows = (
            Row(variant.spec, variant.lean, plugin=_plugin(variant.spec, self._registry))
            for variant in variants
        )
        self.result = replace(self.result, rows=tuple(rows))

    def _change(self, **fields: Any) -> None:  # Any: the fields of Result
        self.result = replace(self.result, **fields)
        self._on_change(self.result)

    def _row(self, label: str) -> Row:
        return next(row for row in self.result.rows if row.label == label)

    def _update(self, label: str, **fields: Any) -> None:  # Any: the fields of Row
        changed = replace(self._row(label), **fields)
        self._change(rows=tuple(changed if r.label == label else r for r in self.result.rows))

    def _fail(self, label: str, event: Event) -> None:
        if event.get("model") and not self._row(label).lean:  # lean is not the model's own doing
            raise ModelError(event["error"])
        self._update(label, status=event["status"], error=event["error"])

    def _live(self) -> list[Variant]:
        return [row.variant for row in self.result.rows if row.status == "ok"]

    def _leave_out_refused(self) -> None:
        others = (row for row in self.result.rows if row.variant != BASELINE)
        refused = [row for row in others if row.status == "error"]
        told: dict[tuple[str, str | None], str] = {}  # once where lean is refused like stock
        for row in refused:
            told.setdefault((row.strategy, row.error), f"left out {row.label}: {row.error}")
        self._change(
            rows=tuple(row for row in self.result.rows if row not in refused),
            notes=(*self.result.notes, *told.values()),
        )

    def _two_fit(self) -> bool:
        peaks = sorted(row.memory.predicted_peak_bytes or 0 for row in self.result.rows)
        return 2 * sum(peaks[-2:]) < available_bytes()

    def _warn_of_load(self) -> None:
        if self._options.static_only:
            return  # nothing is timed
        env = self.result.env
        warning = load_warning(env["threads"], env["load_before"] or 0.0, cores())
        if warning:
            self._change(notes=(*self.result.notes, warning))


def _ignore(_: object) -> None:
    pass


def _merged(predicted: Memory, measured: dict[str, Any]) -> Memory:  # Any: JSON
    """Return the measured figures, with the predicted ones that they lack."""
    known = {name: value for name, value in measured.items() if value is not None}
    return replace(predicted, **known)


def _whole_run_failed(event: Event) -> FreezekitError:
    return ModelError(event["error"]) if event.get("model") else WorkerError(event["error"])


def _plugin(spec: str, registry: Registry) -> Plugin:
    records = [registry.plugin_of(strategy) for strategy in registry.create(spec)]
    return Plugin(
        name=" + ".join(record.name for record in records),
        distribution=" + ".join(dict.fromkeys(record.distribution for record in records)),
        version=" + ".join(dict.fromkeys(record.version for record in records)),
    )
