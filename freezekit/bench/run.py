"""One bench run: which processes measure what, and how their events become a result; no torch."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from freezekit import __version__
from freezekit.bench.base_run import BaseRun
from freezekit.bench.design import load_warning
from freezekit.bench.environment import available_bytes, cores, environment, load_average
from freezekit.bench.gains import beside_eager
from freezekit.bench.looking_up import LookUp
from freezekit.bench.over_run import totals
from freezekit.bench.pays import filling
from freezekit.bench.processes import Event, Workers
from freezekit.bench.resuming import left_of
from freezekit.bench.row_figures import static_fields, with_measured
from freezekit.bench.selection import empty_rows
from freezekit.bench.statistics import append_block, summarise
from freezekit.results.records import CONTROL, Compilation, Raw, Result
from freezekit.results.variant import BASELINE, Variant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from freezekit.bench.base_run import Handler, ProgressUpdate
    from freezekit.bench.forked import ForkServer
    from freezekit.plugins.registry import Registry
    from freezekit.results.records import Filling, Workload

RECOMPILED = (
    "recompiled: the model was compiled again in measured steps, whose time is among the step times"
)


@dataclass(frozen=True)
class BenchOptions:
    """What a bench run does, apart from its workload.

    Attributes:
        variants: What to measure, the baseline first, as `choose` returns it.
        block: Plugins that are not loaded.
        threads: For torch; None for torch's own choice.
        budget_seconds: For the whole run; None for the full protocol, however long it takes.
        static_only: Only the figures that need no run.
        skip_refused: Leave out, with a note, strategies that the model cannot take.
        earlier: Results whose rows need not be measured again.
        schedules: What to measure over a whole training, as `choose_schedules` returns it.
        epochs: Epochs of that training.
        steps_per_epoch: Optimizer steps of an epoch; they matter for the shares of phases only.
    """

    variants: tuple[Variant, ...]
    block: tuple[str, ...] = ()
    threads: int | None = None
    budget_seconds: float | None = None
    static_only: bool = False
    skip_refused: bool = False
    earlier: tuple[Result, ...] = ()
    schedules: tuple[Variant, ...] = ()
    epochs: int = 1
    steps_per_epoch: int = 1


class BenchRun(BaseRun[Result]):
    """One run, from the first process to the last; `result` is always what is known so far."""

    def __init__(
        self,
        workload: Workload,
        options: BenchOptions,
        registry: Registry,
        on_change: Callable[[Result], None],
        on_progress: Callable[[ProgressUpdate], None],
        server: ForkServer | None = None,
    ) -> None:
        """Call `on_change` with each new result, and `on_progress` as in `BaseRun`.

        `server` forks the processes; None to start each anew. Several runs may share one.
        """
        rows = empty_rows(options.variants, registry)
        result = Result(__version__, workload, env=environment(), rows=rows)
        super().__init__(result, on_progress, options.block, options.threads)
        self._options = options
        self._registry = registry
        self._on_change = on_change
        self._server = server
        self._started = time.monotonic()
        self._measured_before: dict[Variant, Result] = {}
        self._timing_failure: Event | None = None
        self._phases: dict[str, Event] = {}
        self._compiled_in: str | None = None

    def job(self, kind: str, variants: Sequence[Variant], **more: str) -> Event:
        """As in `BaseRun`, with the plans of phases, and the folder for what is compiled."""
        more_of_run = {"phases": self._phases, "compiled_in": self._compiled_in}
        return {**super().job(kind, variants, **more), **more_of_run}

    def measure(self) -> Result:
        """Measure all there is to measure and return the whole result.

        Raises:
            FreezekitError: The model cannot be measured at all, whatever the strategy.
            KeyboardInterrupt: The user interrupts; `result` holds what was measured.
        """
        if self._server is not None:
            self.prepare(self._server)
        # Each run compiles everything anew, whatever earlier ones have left on the disk.
        with TemporaryDirectory(prefix="freezekit-") as folder, Workers(self._server) as workers:
            self._compiled_in = folder
            is_looked_up = self._options.earlier or self._options.schedules
            if is_looked_up and not self._look_up(workers):
                return self.result
            self._static(workers)
            if not self._options.static_only:
                self._memory(workers)
                self._timing(workers)
        env = {**self.result.env, "load_after": load_average()}
        self.change(env=env, complete=True)
        return self.result

    def interrupted(self) -> Result:
        """Return what was measured before an interruption, with the step times of whole blocks."""
        if self.result.raw and not any(row.time for row in self.result.rows):
            self._summarise(self._working())
        return self.result

    def results_asked_for(self) -> tuple[tuple[Result, frozenset[Variant]], ...]:
        """Return each variant asked for once, in the earlier run that has it or in this one."""
        mine = frozenset(row.variant for row in self.result.rows)
        before = [
            (
                result,
                frozenset(v for v, run in self._measured_before.items() if run is result) - mine,
            )
            for result in self._options.earlier
        ]
        found = [*before, (self.result, mine)]
        return tuple((result, variants) for result, variants in found if variants)

    # --- the three kinds of worker -----------------------------------------------------------

    def _look_up(self, workers: Workers) -> bool:
        """Find the rows of schedules, and leave out what earlier runs have measured.

        Returns whether anything is left.
        """
        options = self._options
        what = "what is measured already" if options.earlier else "the phases"
        self.start_phase(f"looking up {what}")
        asked = LookUp(self.result, options.schedules, self._registry, self._block, self._threads)
        asked.find(workers, options.epochs, options.steps_per_epoch)
        self._phases = asked.phases
        found = left_of(asked.result, options.earlier, static_only=options.static_only)
        self._measured_before = found.measured_before
        self.result = replace(self.result, rows=found.rows, schedules=found.schedules)
        return bool(found.rows)

    def _static(self, workers: Workers) -> None:
        """Count memory and FLOPs under fake tensors, in one process."""
        variants = [row.variant for row in self.result.rows]
        self.start_phase("counting memory and FLOPs", len(variants))
        self.follow(
            workers.events(self.job("static", variants)),
            {"static": self._take_static},
            counted=("static", "failed"),
            doing=[f"counting {variant.label}" for variant in variants],
        )
        if self._options.skip_refused:
            self._leave_out_refused()
        self.change(schedules=totals(self.result))

    def _memory(self, workers: Workers) -> None:
        """Measure real steps, one process each, two at a time on the CPU: none is timed.

        To compile is timed. So compiled rows are measured afterwards, one at a time.
        """
        working = self._working()
        at_once = 2 if self.result.workload.device == "cpu" and self._two_fit() else 1
        eager = [variant for variant in working if not variant.compiled]
        compiled = [variant for variant in working if variant.compiled]
        if eager:
            self.start_phase("measuring memory", len(eager))
            self._measure(workers, eager, at_once, "")
        if compiled:
            self.start_phase("compiling, and measuring memory", len(compiled))
            self._measure(workers, compiled, 1, "compiling ")
        self.change(schedules=totals(self.result))

    def _measure(
        self, workers: Workers, variants: Sequence[Variant], at_once: int, doing: str
    ) -> None:
        jobs = {variant.label: self.job("memory", [variant]) for variant in variants}
        self.follow(
            workers.events_of_all(jobs, at_once),
            {"memory": self._take_memory, "broken": self.fail_row},
            counted=("memory", "failed", "broken"),
            doing=[doing + ", ".join([*jobs][n : n + at_once]) for n in range(len(jobs))],
        )

    def _timing(self, workers: Workers) -> None:
        """Time all strategies in one process, then summarise the blocks."""
        working = self._working()
        if BASELINE not in working:
            self._note("no step times: the baseline `full` failed")
            return
        self.start_phase("timing steps")
        job = {
            **self.job("timing", working),
            "budget_seconds": self._options.budget_seconds,
            "spent_seconds": time.monotonic() - self._started,
        }
        handlers: dict[str, Handler] = {
            "design": self._take_design,
            "progress": self._take_progress,
            "block": self._take_block,
            "failed": self._fail_timed,
            "broken": self._take_timing_failure,
            "done": _ignore,
        }
        self.follow(workers.events(job), handlers)
        self._summarise(working)
        if self._timing_failure:
            self._note(f"step times are missing or fewer: {self._timing_failure['error']}")
            for variant in working:
                if self.row(variant.label).time is None:
                    self.fail_row({**self._timing_failure, "label": variant.label})

    # --- handlers ------------------------------------------------------------------------------

    def take_environment(self, event: Event) -> None:
        """As in `BaseRun`; warn where the machine is too busy for step times."""
        super().take_environment(event)
        env = self.result.env
        warning = load_warning(env["threads"], env["load_before"] or 0.0, cores())
        if warning and not self._options.static_only:
            self._note(warning)

    def _take_static(self, event: Event) -> None:
        self.update(event["label"], **static_fields(event))

    def _take_memory(self, event: Event) -> None:
        row = self.row(event["label"])
        self.update(row.label, memory=with_measured(row.memory, event))
        if row.compiled:
            said = dict.fromkeys((*row.warnings, *event["warnings"]))  # some are of the plan
            compilation = Compilation(event["compile_seconds"])
            self.update(row.label, compilation=compilation, warnings=tuple(said))

    def _take_block(self, event: Event) -> None:
        self.change(raw=append_block(self.result.raw or Raw(), event))
        for label in event["recompiled"]:
            warnings = dict.fromkeys((*self.row(label).warnings, RECOMPILED))
            self.update(label, warnings=tuple(warnings))

    def _take_design(self, event: Event) -> None:
        self.change(timing_design=event["design"])
        cut = event["design"]["cut"]
        if cut and self._progress.phase == "timing steps":
            self._progress = dataclasses.replace(self._progress, phase=f"timing steps; {cut}")

    def _take_progress(self, event: Event) -> None:
        self.show(what=event["doing"], done=event["done"], total=event["total"])

    def _fail_timed(self, event: Event) -> None:
        if event["label"] != CONTROL:  # the control has no row
            self.fail_row(event)

    def _take_timing_failure(self, event: Event) -> None:
        self._timing_failure = event  # the blocks before it are valid

    # --- the result ----------------------------------------------------------------------------

    def change(self, **fields: Any) -> None:  # Any: the fields of Result
        """Replace fields of the result, and pass it on."""
        super().change(**fields)
        self._on_change(self.result)

    def _note(self, text: str) -> None:
        self.change(notes=(*self.result.notes, text))

    def _summarise(self, timed: Sequence[Variant]) -> None:
        stock = {v.label: v.stock.label for v in timed if v.lean and v.stock in timed}
        summary = summarise(self.result.raw or Raw(), [v.label for v in timed], stock)
        for label, warnings in summary.warnings.items():
            before = self.row(label).warnings
            self.update(label, time=summary.times.get(label), warnings=(*before, *warnings))
        floor = summary.noise_floor
        for variant in timed:
            if variant.cached:
                self.update(variant.label, filling=self._filling(variant, floor))
            known = self.row(variant.label).compilation
            if known is not None:
                labels = variant.label, variant.eager.label
                found = beside_eager(known, self.result.raw or Raw(), *labels, floor=floor)
                self.update(variant.label, compilation=found)
        self.change(control=summary.control, notes=(*self.result.notes, *summary.notes))
        self.change(schedules=totals(self.result))

    def _filling(self, cached: Variant, floor: float | None) -> Filling | None:
        return filling(
            self.result.raw or Raw(),
            cached.label,
            cached.uncached.label,
            batch_size=self.result.workload.batch_size,
            floor=floor,
        )

    def _working(self) -> list[Variant]:
        return [row.variant for row in self.result.rows if row.status == "ok"]

    def _leave_out_refused(self) -> None:
        others = (row for row in self.result.rows if row.variant != BASELINE)
        refused = [row for row in others if row.status == "error"]
        reasons: dict[tuple[str, str | None], str] = {}  # one where lean is refused like stock
        for row in refused:
            reasons.setdefault((row.strategy, row.error), f"left out {row.label}: {row.error}")
        self.change(
            rows=tuple(row for row in self.result.rows if row not in refused),
            notes=(*self.result.notes, *reasons.values()),
        )

    def _two_fit(self) -> bool:
        peaks = sorted(row.memory.predicted_peak_bytes or 0 for row in self.result.rows)
        return 2 * sum(peaks[-2:]) < available_bytes()


def _ignore(_: object) -> None:
    pass
