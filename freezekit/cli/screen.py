"""What a person sees of a bench run, and the files that it leaves."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from freezekit.bench.run import Doing, Options, Run
from freezekit.errors import FreezekitError, OutputError
from freezekit.report.table import print_result
from freezekit.report.write import write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from freezekit.bench.results import Result, Workload
    from freezekit.registry import Registry

INTERRUPTED = 130
STRATEGY_FAILED = 4


def run_all(
    workloads: Sequence[Workload], options: Options, registry: Registry, outputs: Sequence[str]
) -> int:
    """Measure one workload after another, print a table for each, and return the exit code.

    The files hold, at any moment, all that was measured until then.

    A model that cannot be measured at all costs its own results only; its reason is told last.

    Raises:
        FreezekitError: A model cannot be measured at all.
        OutputError: A file cannot be written; the tables have been printed all the same.
    """
    done: list[Result] = []
    refused: list[FreezekitError] = []
    writer = _Writer(outputs)
    code = 0
    for workload in workloads:
        with _progress(workload.model) as show:
            run = Run(workload, options, registry, lambda r: writer.write([*done, r]), show)
            try:
                result = run.measure()
            except KeyboardInterrupt:
                result, code = run.interrupted(), INTERRUPTED
            except FreezekitError as error:
                refused.append(error)
                continue
        done.append(result)
        writer.write(done)
        print_result(result, Console(highlight=False, emoji=False))
        if code == INTERRUPTED:
            break
        if any(row.status != "ok" for row in result.rows):
            code = STRATEGY_FAILED
    if code == INTERRUPTED:
        kept = f"; what was measured is in {', '.join(outputs)}" if outputs else ""
        print(f"interrupted{kept}", file=sys.stderr)
    writer.finish()
    for earlier in refused[:-1]:
        print(f"Error: {earlier}", file=sys.stderr)
    if refused:
        raise refused[-1]
    return code


class _Writer:
    """Writes the files as results come; a failure is kept for the end, so as to lose nothing."""

    def __init__(self, outputs: Sequence[str]) -> None:
        self._outputs = outputs
        self._failed: OutputError | None = None

    def write(self, results: Sequence[Result]) -> None:
        measured = [result for result in results if any(row.parameters for row in result.rows)]
        if not measured:
            return
        self._failed = None
        for path in self._outputs:
            try:
                write(measured, path)
            except OutputError as error:
                self._failed = error

    def finish(self) -> None:
        if self._failed:
            raise self._failed


@contextmanager
def _progress(model: str) -> Iterator[Callable[[Doing], None]]:
    """Show progress on stderr: a line for each phase, and a bar below them on a terminal."""
    console = Console(stderr=True, highlight=False, emoji=False)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(None), TimeElapsedColumn())
    phases: list[str] = []
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("starting", total=None)

        def show(doing: Doing) -> None:
            if doing.phase not in phases:
                phases.append(doing.phase)
                bar.reset(task)  # its clock tells the time of a phase
                console.print(f"{model}: {doing.phase}", markup=False, soft_wrap=True)
            bar.update(task, description=doing.what, completed=doing.done, total=doing.total)

        yield show
