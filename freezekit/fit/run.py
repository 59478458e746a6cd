"""What fits into a memory: records, and the processes that find it out; no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from msgspec.structs import replace

from freezekit import __version__
from freezekit.bench.environment import available_bytes, environment
from freezekit.bench.processes import Event, Workers, job_for
from freezekit.bench.run import Doing
from freezekit.errors import ModelError, ShortageError, WorkerError
from freezekit.results.records import Memory, Record, Status, Workload
from freezekit.results.variant import Variant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WORKERS = {"fit": "freezekit.fit.worker", "memory": "freezekit.bench.worker"}
MARGIN = 0.02  # of whose workspace little is known: half precision and autocast on the CPU
CUDA_MARGIN = 0.15  # libraries took some 70 MiB, and up to 11 % of the peak, on the device measured
COUNTED_MARGIN = 0.0001  # where it is counted; real steps came within 0.003 % of what was predicted


def default_margin(workload: Workload) -> float:
    """Return the fraction of a predicted peak that is left for what is not counted.

    Example:
        >>> from freezekit.results.records import Workload
        >>> default_margin(Workload("timm:resnet18")), default_margin(Workload("x", amp="bfloat16"))
        (0.0001, 0.02)
    """
    if workload.device == "cuda":
        return CUDA_MARGIN
    counted = workload.dtype == "float32" and not workload.amp
    return COUNTED_MARGIN if counted else MARGIN


class FitRow(Record, frozen=True):
    """One strategy.

    Attributes:
        strategy, lean: As in a bench row.
        status, error: Likewise.
        batch_size: The largest that fits, 0 where none does; or the one that was asked for.
        memory: Predicted at that batch; where none fits, at the smallest that the model takes.
        next_peak_bytes: Predicted for a batch larger by one; None where it was not asked.
        tried: Batches whose peak was predicted.
        measured_peak_bytes, measured_next_peak_bytes: Of real steps, where they were asked for.
    """

    strategy: str
    lean: bool = False
    status: Status = "ok"
    error: str | None = None
    batch_size: int | None = None
    memory: Memory = Memory()
    next_peak_bytes: int | None = None
    tried: int = 0
    measured_peak_bytes: int | None = None
    measured_next_peak_bytes: int | None = None

    @property
    def variant(self) -> Variant:
        """What the row is about."""
        return Variant(self.strategy, self.lean)

    @property
    def label(self) -> str:
        """How the row is called."""
        return self.variant.label


class Fit(Record, frozen=True):
    """What fits into a memory, strategy by strategy.

    Attributes:
        kind: Tells the file from that of a bench run.
        memory_bytes: That it has to fit into.
        margin: The fraction of the predicted peak that is left for the allocator.
        asked_batch_size: None where the largest was searched.
    """

    freezekit: str
    workload: Workload
    env: dict[str, Any]  # Any: facts of many types
    memory_bytes: int
    margin: float
    asked_batch_size: int | None = None
    rows: tuple[FitRow, ...] = ()
    complete: bool = False
    kind: Literal["freezekit fit"] = "freezekit fit"
    schema_version: int = 1

    @property
    def limit_bytes(self) -> int:
        """What a predicted peak may be, the margin left free."""
        return math.floor(self.memory_bytes / (1 + self.margin))

    def fits(self, row: FitRow) -> bool | None:
        """Tell whether the row's batch fits by prediction; None where that is not known."""
        if row.status != "ok" or row.memory.peak_bytes is None:
            return None
        return row.batch_size != 0 and row.memory.peak_bytes <= self.limit_bytes

    def held(self, row: FitRow) -> bool | None:
        """Tell whether a real step of the row's batch fitted; None where none was run."""
        if row.measured_peak_bytes is None:
            return None
        return row.measured_peak_bytes <= self.memory_bytes


@dataclass(frozen=True)
class FitOptions:
    """What to find out.

    Attributes:
        variants: As a bench run's.
        memory_bytes: None for what the device has free.
        margin: As in `Fit`; None for that of `default_margin`.
        batch_size: To ask of one batch; None for the largest.
        verify: Run a real step of the answer, and of a batch larger by one.
        block, threads: As a bench run's.
    """

    variants: tuple[Variant, ...]
    memory_bytes: int | None = None
    margin: float | None = None
    batch_size: int | None = None
    verify: bool = False
    block: tuple[str, ...] = ()
    threads: int | None = None


class FitRun:
    """One run; `result` is always what is known so far."""

    def __init__(
        self,
        workload: Workload,
        options: FitOptions,
        on_progress: Callable[[Doing], None],
        check: Callable[[Workload], object] = lambda _: None,
    ) -> None:
        """Call `check` once the workload is resolved; it may raise, which ends the run."""
        self._options = options
        self._check = check
        self._on_progress = on_progress
        margin = default_margin(workload) if options.margin is None else options.margin
        self.result = Fit(
            __version__,
            workload,
            environment(),
            options.memory_bytes or available_bytes(),
            margin,
            options.batch_size,
            tuple(FitRow(variant.spec, variant.lean) for variant in options.variants),
        )

    def find(self) -> Fit:
        """Find out all there is to find out.

        Raises:
            ModelError: The model cannot be had at all.
            ShortageError: `--verify` needs more memory than the machine has free, or the system
                does not tell how much that is and no memory was given.
            WorkerError: The process that predicts died.
        """
        if not self.result.memory_bytes and self.result.workload.device == "cpu":
            raise ShortageError("this system does not tell how much memory is free: give --memory")
        with Workers() as workers:
            self._predict(workers)
            if self._options.verify:
                self._verify(workers)
        self.result = replace(self.result, complete=True)
        return self.result

    def _predict(self, workers: Workers) -> None:
        phase, total, done = "predicting peaks", len(self._options.variants), 0
        self._on_progress(Doing(phase, phase, done, total))
        job = {
            **self._job("fit", self._options.variants),
            "memory_bytes": self._options.memory_bytes,
            "margin": self.result.margin,
            "batch_size": self._options.batch_size,
        }
        for event in workers.events(job):
            match event["event"]:
                case "environment":
                    env = {**self.result.env, **event["environment"]}
                    self.result = replace(self.result, env=env)
                case "memory_bytes":
                    self.result = replace(self.result, memory_bytes=event["memory_bytes"])
                case "workload":
                    shape = tuple(event["workload"]["input_shape"])
                    workload = Workload(**{**event["workload"], "input_shape": shape})
                    self.result = replace(self.result, workload=workload)
                    self._check(workload)
                case "trying":
                    self._on_progress(Doing(phase, event["what"], done, total))
                case "fit":
                    done += 1
                    self._update(
                        event["label"],
                        batch_size=event["batch_size"],
                        memory=Memory(**event["memory"]),
                        next_peak_bytes=event["next_peak_bytes"],
                        tried=event["tried"],
                    )
                case "failed":
                    done += 1
                    self._fail(event["label"], event)
                case "broken":
                    kind = ModelError if event.get("model") else WorkerError
                    raise kind(event["error"])
            self._on_progress(Doing(phase, phase, done, total))

    def _verify(self, workers: Workers) -> None:
        """Run a real step of each answer and of the next batch, one process each."""
        todo = [
            (row, row.batch_size + more, name)
            for row in self.result.rows
            if row.status == "ok" and row.batch_size
            for more, name in ((0, "measured_peak_bytes"), (1, "measured_next_peak_bytes"))
        ]
        self._check_room(row for row, _, _ in todo)
        phase = "running real steps"
        for done, (row, batch, name) in enumerate(todo):
            what = f"{row.label}, batch {batch}"
            self._on_progress(Doing(phase, what, done, len(todo)))
            job = self._job("memory", [row.variant])
            job["workload"] = {**job["workload"], "batch_size": batch, "input_shape": None}
            for event in workers.events(job):
                if event["event"] == "memory":
                    self._update(row.label, **{name: event["memory"]["peak_bytes"]})
                elif name == "measured_peak_bytes":  # the next batch may well be too much
                    self._fail(row.label, event)

    def _check_room(self, rows: Any) -> None:  # Any: an iterable of rows
        if self.result.workload.device != "cpu":
            return  # the device says itself when it is full
        need = max((row.next_peak_bytes or row.memory.peak_bytes or 0 for row in rows), default=0)
        free = available_bytes()
        if free and need > free:
            raise ShortageError(
                f"--verify would need {need:,} bytes and the machine has {free:,} free: leave "
                "--verify out, or give a smaller --memory"
            )

    def _job(self, kind: str, variants: Sequence[Variant]) -> Event:
        options, worker = self._options, WORKERS[kind]
        return job_for(kind, self.result.workload, variants, options.block, options.threads, worker)

    def _update(self, label: str, **fields: Any) -> None:  # Any: the fields of FitRow
        rows = (replace(r, **fields) if r.label == label else r for r in self.result.rows)
        self.result = replace(self.result, rows=tuple(rows))

    def _fail(self, label: str, event: Event) -> None:
        row = next(row for row in self.result.rows if row.label == label)
        if event.get("model") and not row.lean:
            raise ModelError(event["error"])
        self._update(label, status=event["status"], error=event["error"])
