"""What a person sees of a bench run, and the files that it leaves."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from freezekit.bench.resuming import superseded
from freezekit.bench.run import Doing, Options, Run
from freezekit.cli.gates import tell
from freezekit.compare.pairing import earlier_rows, pair
from freezekit.compare.show import print_comparison
from freezekit.errors import FreezekitError, OutputError
from freezekit.gate.judge import judge
from freezekit.report.table import print_result
from freezekit.report.write import write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from freezekit.bench.results import Result, Workload
    from freezekit.gate.judge import Gate
    from freezekit.registry import Registry

INTERRUPTED = 130
STRATEGY_FAILED = 4


def run_all(
    workloads: Sequence[Workload],
    options: Options,
    registry: Registry,
    outputs: Sequence[str],
    *,
    gates: Sequence[Gate] = (),
    baseline: Sequence[Result] = (),
) -> int:
    """Measure one workload after another, print a table for each, and return the exit code.

    The files hold, at any moment, all that was measured until then, and what `options.earlier`
    holds; HTML, whole models. A model that cannot be measured at all costs its own results only;
    its reason is told last.

    Args:
        workloads: One for each model.
        options: What is measured of each.
        registry: Where strategies are looked up.
        outputs: Files to write.
        gates: Conditions that fail the run.
        baseline: Results of an earlier run, to compare with.

    Raises:
        FreezekitError: A model cannot be measured at all.
        OutputError: A file cannot be written; the tables have been printed all the same.
    """
    console = Console(highlight=False, emoji=False)
    earlier = list(options.earlier)
    done: list[Result] = []
    refused: list[FreezekitError] = []
    writer = _Writer(outputs)
    code = 0
    for number, workload in enumerate(workloads, start=1):
        of_all = f" ({number} of {len(workloads)})" if len(workloads) > 1 else ""
        with progress(f"{workload.model}{of_all}") as show:
            write = partial(writer.write_also, [*earlier, *done])
            run = Run(workload, options, registry, write, show)
            try:
                result = run.measure()
            except KeyboardInterrupt:
                result, code = run.interrupted(), INTERRUPTED
            except FreezekitError as error:
                refused.append(error)
                continue
        if not result.rows:
            console.print(f"{workload.model}: nothing is left to measure", markup=False)
            continue
        done.append(result)
        earlier = [before for before in earlier if not superseded(before, result)]
        writer.write([*earlier, *done])
        print_result(result, console)
        if code == INTERRUPTED:
            break
        if any(row.status != "ok" for row in result.rows):
            code = STRATEGY_FAILED
    if code == INTERRUPTED:
        kept = f"; what was measured is in {', '.join(outputs)}" if outputs else ""
        print(f"interrupted{kept}", file=sys.stderr)
    writer.finish()
    if code != INTERRUPTED:
        judged = _judged([*earlier, *done], gates, baseline, console)
        code = code or judged
    for before in refused[:-1]:
        print(f"Error: {before}", file=sys.stderr)
    if refused:
        raise refused[-1]
    return code


def _judged(
    results: Sequence[Result], gates: Sequence[Gate], baseline: Sequence[Result], console: Console
) -> int:
    """Print how the results compare with the baseline and what the gates say of them."""
    if baseline:
        for found in pair(baseline, results):
            console.print()
            print_comparison(found, console)
    judgements = [
        judgement
        for result in results
        for judgement in judge(gates, result, earlier_rows(baseline, result))
    ]
    return tell(gates, judgements)


class _Writer:
    """Writes the files as results come; a failure is kept for the end, so as to lose nothing."""

    def __init__(self, outputs: Sequence[str]) -> None:
        self._outputs = outputs
        self._failed: OutputError | None = None
        self._drawn: Sequence[Result] = ()
        self._undrawn: Sequence[Result] = ()

    def write_also(self, known: Sequence[Result], result: Result) -> None:
        self.write([*known, result])

    def write(self, results: Sequence[Result]) -> None:
        measured = [result for result in results if any(row.parameters for row in result.rows)]
        if not measured:
            return
        self._failed = None
        self._undrawn = measured
        self._write(measured, [path for path in self._outputs if not _is_drawn(path)])
        if results[-1].complete:
            self._draw()

    def _draw(self) -> None:
        """Write what has charts: not between blocks, for it takes a second of the cores."""
        paths = [path for path in self._outputs if _is_drawn(path)]
        if self._undrawn != self._drawn and self._write(self._undrawn, paths):
            self._drawn = self._undrawn

    def _write(self, results: Sequence[Result], paths: Sequence[str]) -> bool:
        well = True
        for path in paths:
            try:
                write(results, path)
            except OutputError as error:
                self._failed, well = error, False
        return well

    def finish(self) -> None:
        self._draw()
        if self._failed:
            raise self._failed


def _is_drawn(path: str) -> bool:
    return path.lower().endswith(".html")


@contextmanager
def progress(model: str) -> Iterator[Callable[[Doing], None]]:
    """Show progress on stderr: a line for each phase, and a bar below them on a terminal."""
    console = Console(stderr=True, highlight=False, emoji=False)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(None),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(compact=True),
    )
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
