"""What `freezekit bench` has measured of each model: here, one after the other, or on an engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezekit.bench.base_run import ProgressUpdate
from freezekit.bench.run import BenchRun
from freezekit.bench.task import FUNCTION, answered, argument_of
from freezekit.cli.progress import progress
from freezekit.engines.records import Task
from freezekit.errors import FreezekitError, WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from freezekit.bench.forked import ForkServer
    from freezekit.bench.run import BenchOptions
    from freezekit.bench.task import Asked
    from freezekit.engines.records import Engine, Outcome
    from freezekit.plugins.registry import Registry
    from freezekit.results.records import Result, Workload


@dataclass(frozen=True)
class Measured:
    """What came of a model.

    Attributes:
        workload: As it was asked for; None where an interruption concerns all that is not done.
        result: None where nothing was left to measure, or nothing is known.
        asked: As `BenchRun.results_asked_for` returns it.
        error: Why it cannot be measured at all; None where it was.
        is_interrupted: Whether the user ended the run; nothing follows.
    """

    workload: Workload | None
    result: Result | None = None
    asked: Asked = ()
    error: FreezekitError | None = None
    is_interrupted: bool = False


def here(
    workloads: Sequence[Workload],
    options: BenchOptions,
    registry: Registry,
    server: ForkServer | None,
    save: Callable[[Result], None],
) -> Iterator[Measured]:
    """Measure one model after the other on this machine.

    Args:
        workloads: One for each model.
        options: What is measured of each.
        registry: Where strategies are looked up.
        server: Forks the processes; None to start each anew.
        save: Takes each result as far as it is known, again and again.
    """
    for number, workload in enumerate(workloads, start=1):
        of_all = f" (model {number} of {len(workloads)})" if len(workloads) > 1 else ""
        with progress(f"{workload.model}{of_all}") as show:
            run = BenchRun(workload, options, registry, save, show, server)
            try:
                result, is_interrupted = run.measure(), False
            except KeyboardInterrupt:
                result, is_interrupted = run.interrupted(), True
            except FreezekitError as error:
                yield Measured(workload, error=error)
                continue
        left = result if result.rows else None
        yield Measured(workload, left, run.results_asked_for(), None, is_interrupted)


def on_engine(
    workloads: Sequence[Workload], options: BenchOptions, engine: Engine
) -> Iterator[Measured]:
    """Measure each model as a task of an engine, and yield them as they come.

    Args:
        workloads: One for each model.
        options: What is measured of each.
        engine: Runs one task at a time on each host.
    """
    tasks = {
        f"{number}: {workload.model}": workload for number, workload in enumerate(workloads, 1)
    }
    made = [Task(name, FUNCTION, argument_of(work, options)) for name, work in tasks.items()]
    outcomes = engine.run(made)
    for done in range(len(tasks)):
        try:
            with progress(f"{done} of {len(tasks)} models done") as show:
                outcome = _next_end(outcomes, show)
        except KeyboardInterrupt:
            yield Measured(None, is_interrupted=True)
            return
        workload = tasks[outcome.task]
        try:
            if outcome.status != "ok":
                raise WorkerError(f"{workload.model}: {outcome.error}")
            yield Measured(workload, *answered(outcome.answer, options))
        except FreezekitError as error:
            yield Measured(workload, error=error)


def _next_end(outcomes: Iterator[Outcome], show: Callable[[ProgressUpdate], None]) -> Outcome:
    """Return the next outcome that is no message; show the messages until then."""
    for outcome in outcomes:
        if outcome.status != "message":
            return outcome
        said = f"{outcome.task}: {outcome.answer}"
        show(ProgressUpdate(said, said))
    raise WorkerError("the engine ended before all models were measured")
