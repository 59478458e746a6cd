"""What fits into a memory: the run that finds it, and its processes; no torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from freezekit import __version__
from freezekit.bench.base_run import BaseRun
from freezekit.bench.environment import available_bytes, environment
from freezekit.bench.forked import ForkServer
from freezekit.bench.processes import Event, Workers
from freezekit.errors import FreezekitError, InsufficientMemoryError
from freezekit.fit.margin import default_margin
from freezekit.fit.real_steps import RealSteps
from freezekit.fit.records import Fit, FitRow, WithinBudget, WorkspaceCheck
from freezekit.results.records import Memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from freezekit.bench.base_run import ProgressUpdate
    from freezekit.results.records import Workload
    from freezekit.results.variant import Variant

WORKER = "freezekit.fit.worker"


@dataclass(frozen=True)
class FitOptions:
    """What to find.

    Attributes:
        variants: As a bench run's.
        memory_bytes: None for what the device has free.
        margin: As in `Fit`; None for that of `default_margin`.
        batch_size: The one batch to judge; None to search the largest.
        samples: Of the data set, for the size of its caches; None where they are not known.
        verify: Run a real step of the answer, and of a batch larger by one.
        block, threads: As a bench run's.
    """

    variants: tuple[Variant, ...]
    memory_bytes: int | None = None
    margin: float | None = None
    batch_size: int | None = None
    samples: int | None = None
    verify: bool = False
    block: tuple[str, ...] = ()
    threads: int | None = None


class FitRun(BaseRun[Fit]):
    """One run; `result` is always what is known so far."""

    def __init__(
        self,
        workload: Workload,
        options: FitOptions,
        on_progress: Callable[[ProgressUpdate], None],
        check: Callable[[Workload], object] = lambda _: None,
    ) -> None:
        """Call `check` once the workload is resolved; an error that it raises ends the run."""
        result = Fit(
            __version__,
            workload,
            environment(),
            options.memory_bytes or available_bytes(),
            default_margin(workload, None) if options.margin is None else options.margin,
            options.batch_size,
            tuple(
                FitRow(v.spec, v.lean, cached=v.cached, compiled=v.compiled)
                for v in options.variants
            ),
            samples=options.samples,
        )
        super().__init__(result, on_progress, options.block, options.threads)
        self._options = options
        self._check = check

    def find(self) -> Fit:
        """Find what fits, row by row.

        Raises:
            ModelError: The model cannot be had at all.
            InsufficientMemoryError: `--verify` or `--compile` needs more memory than the machine
                has free, or the system does not tell how much that is and no memory was given.
            WorkerError: The process that predicts died.
        """
        if not self.result.memory_bytes and self.result.workload.device == "cpu":
            raise InsufficientMemoryError(
                "this system does not tell how much memory is free: give --memory"
            )
        with ForkServer() as server, Workers(server) as workers:
            self.prepare(server)
            self._predict(workers)
            self._search_compiled(workers)
            if self._options.verify:
                self._verify(workers)
        self.change(complete=True)
        return self.result

    def _predict(self, workers: Workers) -> None:
        eager = [variant for variant in self._options.variants if not variant.compiled]
        self.start_phase("predicting peaks", len(eager))
        job = {
            **self.job("fit", eager, worker=WORKER),
            "memory_bytes": self._options.memory_bytes,
            "margin": self._options.margin,
            "batch_size": self._options.batch_size,
        }
        handlers = {
            "memory_bytes": lambda event: self.change(memory_bytes=event["memory_bytes"]),
            "margin": self._take_margin,
            "trying": lambda event: self.show(what=event["what"]),
            "fit": self._take_fit,
        }
        self.follow(workers.events(job), handlers, counted=("fit", "failed"))

    def _search_compiled(self, workers: Workers) -> None:
        """Find by real steps what fits compiled. Each compiles for its batch, as a training does.

        Raises:
            InsufficientMemoryError: The machine has less memory free than was given.
        """
        compiled = [row for row in self.result.rows if row.compiled]
        if not compiled:
            return
        is_given = self._options.memory_bytes is not None and self._options.batch_size is None
        self._check_free(self.result.memory_bytes if is_given else 0, "--compile")
        self.start_phase("compiling, and running real steps", len(compiled))
        for row in compiled:
            search = RealSteps(partial(self._real_step, workers, row))
            try:
                found = search.find(self.result.memory_bytes, self._options.batch_size)
            except FreezekitError as error:
                self.update(row.label, status="error", error=str(error))
            else:
                self.update(row.label, **found)
            self.show(done=self._progress.done + 1)

    def _real_step(self, workers: Workers, row: FitRow, batch: int) -> Event:
        """Return the last event of the process that runs a real step."""
        self.show(what=f"compiling {row.label}, batch {batch}")
        job = self.job("memory", [row.variant])
        job["workload"] = {**job["workload"], "batch_size": batch}
        *_, last = workers.events(job)
        return last

    def _verify(self, workers: Workers) -> None:
        """Run a real step of each answer and of the next batch, one process each."""
        todo = [
            (row, row.batch_size + more, field)
            for row in self.result.rows
            if row.status == "ok" and row.batch_size and not row.compiled
            for more, field in ((0, "measured_peak_bytes"), (1, "measured_next_peak_bytes"))
        ]
        self._check_free_memory(row for row, _, _ in todo)
        self.start_phase("running real steps", len(todo))
        for row, batch, field in todo:
            self.show(what=f"{row.label}, batch {batch}")
            self._run_real_step(workers, row, batch, field)
            self.show(done=self._progress.done + 1)

    def _run_real_step(self, workers: Workers, row: FitRow, batch: int, field: str) -> None:
        job = self.job("memory", [row.variant])
        job["workload"] = {**job["workload"], "batch_size": batch}

        def take(event: Event) -> None:
            self.update(row.label, **{field: event["memory"]["peak_bytes"]})

        def fail(event: Event) -> None:
            if field == "measured_peak_bytes":  # the next batch is expected to be too large
                self.fail_row(event)

        handlers = {"memory": take, "failed": fail, "broken": fail}
        self.follow(workers.events_of_all({row.label: job}, at_once=1), handlers)

    def _check_free_memory(self, rows: Iterable[FitRow]) -> None:
        need = max((row.next_peak_bytes or row.memory.peak_bytes or 0 for row in rows), default=0)
        self._check_free(need, "--verify")

    def _check_free(self, need: int, option: str) -> None:
        if self.result.workload.device != "cpu":
            return  # the device itself refuses what it cannot hold
        free = available_bytes()
        if free and need > free:
            raise InsufficientMemoryError(
                f"{option} would need {need:,} bytes and the machine has {free:,} free: leave "
                f"{option} out, or give a smaller --memory"
            )

    # --- handlers ------------------------------------------------------------------------------

    def take_workload(self, event: Event) -> None:
        """As in `BaseRun`; then call the check that the caller gave."""
        super().take_workload(event)
        self._check(self.result.workload)

    def _take_margin(self, event: Event) -> None:
        found = event["workspace_check"]
        if found:
            found = WorkspaceCheck(**{**found, "differing": tuple(found["differing"])})
        self.change(margin=event["margin"], workspace_check=found)

    def _take_fit(self, event: Event) -> None:
        advice = event["within_budget"]
        self.update(
            event["label"],
            batch_size=event["batch_size"],
            memory=Memory(**event["memory"]),
            next_peak_bytes=event["next_peak_bytes"],
            tried=event["tried"],
            cache_bytes_per_sample=event["cache_bytes_per_sample"],
            within_budget=None if advice is None else WithinBudget(**advice),
        )
