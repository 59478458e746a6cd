"""What the runs of `bench` and `fit` share: one loop from workers' events to a result; no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from msgspec import structs

from freezekit.bench.forked import libraries_of
from freezekit.bench.processes import Event, job_for, worker_environment
from freezekit.errors import ModelError, WorkerError
from freezekit.results.records import Workload

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from freezekit.bench.forked import ForkServer
    from freezekit.results.variant import Variant

    Handler = Callable[[Event], None]


@dataclass(frozen=True)
class ProgressUpdate:
    """What runs now, and how far its phase is; `total` is None where that is not known."""

    phase: str
    what: str
    done: int = 0
    total: int | None = None


class AnyRow(Protocol):
    """What the loop needs of a row of either kind of result."""

    @property
    def label(self) -> str:
        """The name by which events refer to the row."""

    @property
    def variant(self) -> Variant:
        """What the row is about."""


class AnyResult(Protocol):
    """What the loop needs of either kind of result."""

    @property
    def workload(self) -> Workload:
        """The training step."""

    @property
    def env(self) -> dict[str, Any]:  # Any: facts of many types
        """The facts of machine and software."""

    @property
    def rows(self) -> Sequence[AnyRow]:
        """One row for each variant."""


R = TypeVar("R", bound=AnyResult)
T = TypeVar("T")


class BaseRun(Generic[R]):
    """A run: it starts workers, and their events fill the rows of `result`.

    A subclass gives `follow` a table from the name of an event to its handler. The events
    "environment", "workload", "failed" and "broken" have a handler here.

    Attributes:
        result: What is known so far, at any time.
    """

    def __init__(
        self,
        result: R,
        on_progress: Callable[[ProgressUpdate], None],
        block: Sequence[str],
        threads: int | None,
    ) -> None:
        """Start with what is known before any worker runs.

        Args:
            result: The workload, and one row for each variant.
            on_progress: Called with each change of the progress.
            block: Plugins that workers do not load.
            threads: For torch; None for its own choice.
        """
        self.result = result
        self._on_progress = on_progress
        self._block = block
        self._threads = threads
        self._progress = ProgressUpdate("", "")

    def job(self, kind: str, variants: Sequence[Variant], **more: str) -> Event:
        """Return a job for a worker, as `job_for` does."""
        return job_for(kind, self.result.workload, variants, self._block, self._threads, **more)

    def prepare(self, server: ForkServer) -> None:
        """Let the imports of the measuring processes be done once, where these can be forked.

        CUDA is left out: a process that has used it cannot be forked, and whether some library does
        on import is not known for all machines.
        """
        if self.result.workload.device == "cpu":
            libraries = ("torch", *libraries_of(self.result.workload.model))
            self.start_phase(f"importing {', '.join(libraries)}")
            server.prepare(self.result.workload.model, worker_environment())

    def follow(
        self,
        events: Iterable[Event],
        handlers: Mapping[str, Handler],
        counted: Collection[str] = (),
        doing: Sequence[str] = (),
    ) -> None:
        """Pass each event to its handler.

        Args:
            events: As a worker sends them.
            handlers: By the name of the event; they go before those of this class.
            counted: Names of events that each complete one item of the phase.
            doing: What is shown while so many items are complete.

        Raises:
            ModelError: The model cannot be measured, whatever the strategy.
            WorkerError: The process died.
        """
        shared = {
            "environment": self.take_environment,
            "workload": self.take_workload,
            "doing": lambda event: self.show(what=event["what"]),
            "failed": self.fail_row,
            "broken": self.fail_run,
        }
        table = {**shared, **handlers}
        if doing:
            self.show(what=doing[0])
        for event in events:
            name = event["event"]
            table[name](event)
            if name in counted:
                done = self._progress.done + 1
                self.show(done=done, what=(*doing[done:], self._progress.what)[0])

    # --- handlers ------------------------------------------------------------------------------

    def take_environment(self, event: Event) -> None:
        """Add what a worker knows of software and device."""
        self.change(env={**self.result.env, **event["environment"]})

    def take_workload(self, event: Event) -> None:
        """Take the workload as a worker resolved it, and the digest of the model, if it has one."""
        shape = tuple(event["workload"]["input_shape"])
        self.change(workload=Workload(**{**event["workload"], "input_shape": shape}))
        if "model_digest" in event:
            self.change(env={**self.result.env, "model_digest": event["model_digest"]})

    def fail_row(self, event: Event) -> None:
        """Mark the row of the event as failed.

        Raises:
            ModelError: The model failed in a stock row on images. Every other row would fail
                likewise. In any other row the cause may be lean, the cache, or the compiler.
        """
        row = self.row(event["label"])
        if event.get("model") and row.variant == row.variant.stock.uncached.eager:
            raise ModelError(event["error"])
        self.update(row.label, status=event["status"], error=event["error"])

    def fail_run(self, event: Event) -> None:
        """End the run.

        Raises:
            ModelError: The model cannot be had.
            WorkerError: The process died for another reason.
        """
        raise (ModelError if event.get("model") else WorkerError)(event["error"])

    # --- the result ----------------------------------------------------------------------------

    def row(self, label: str) -> Any:  # Any: a row of the type that `R` has
        """Return the row of that label."""
        return next(row for row in self.result.rows if row.label == label)

    def change(self, **fields: Any) -> None:  # Any: the fields of the result
        """Replace fields of the result."""
        self.result = _with(self.result, fields)

    def update(self, label: str, **fields: Any) -> None:  # Any: the fields of a row
        """Replace fields of the row of that label."""
        rows = (_with(r, fields) if r.label == label else r for r in self.result.rows)
        self.change(rows=tuple(rows))

    # --- the progress --------------------------------------------------------------------------

    def start_phase(self, phase: str, total: int | None = None) -> None:
        """Show that a phase begins."""
        self._progress = ProgressUpdate(phase, phase, total=total)
        self._on_progress(self._progress)

    def show(self, **fields: Any) -> None:  # Any: the fields of ProgressUpdate
        """Change fields of the progress and show it."""
        self._progress = replace(self._progress, **fields)
        self._on_progress(self._progress)


def _with(record: T, fields: Mapping[str, Any]) -> T:  # Any: the fields of the record
    """Return a record with other values in some fields."""
    return structs.replace(record, **fields)  # type: ignore[type-var]  # results and rows are structs
