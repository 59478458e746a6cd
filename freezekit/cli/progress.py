"""What a bench run shows on the terminal, and the files that it writes."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from freezekit.bench.resuming import with_run
from freezekit.bench.run import BenchOptions, BenchRun
from freezekit.cli.gates import report_gates
from freezekit.compare.pairing import earlier_rows, pair
from freezekit.compare.show import print_comparison
from freezekit.errors import ExitCode, FreezekitError, OutputError
from freezekit.gate.judge import judge
from freezekit.report.formats import RESULT_FORMATS, holds_results
from freezekit.report.output import format_of, write
from freezekit.report.table import print_result
from freezekit.results.files import UNCHANGED

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from freezekit.bench.base_run import ProgressUpdate
    from freezekit.bench.forked import ForkServer
    from freezekit.gate.judge import Gate
    from freezekit.plugins.registry import Registry
    from freezekit.results.records import Result, Workload
    from freezekit.results.variant import Variant

CLOCKS_WIDTH = 42  # columns: a bar that can still be read, and the times beside it


def run_all(
    workloads: Sequence[Workload],
    options: BenchOptions,
    registry: Registry,
    outputs: Sequence[str],
    server: ForkServer | None = None,
    *,
    replaced: Sequence[Result] = (),
    gates: Sequence[Gate] = (),
    baseline: Sequence[Result] = (),
    explain: bool = False,
) -> ExitCode:
    """Measure one workload after another, print a table for each, and return the exit code.

    At any time the files hold all that was measured until then, and the runs in `options.earlier`.
    HTML holds complete models only. The runs in `replaced` are removed once every model was
    measured, so that an interruption loses no complete run. A model that cannot be measured at all
    loses its own results only; its error is shown last. Gates judge all rows that were asked for,
    measured now or before.

    Args:
        workloads: One for each model.
        options: What is measured of each.
        registry: Where strategies are looked up.
        outputs: Files to write.
        server: Forks the processes; None to start each anew.
        replaced: Complete runs that the files hold until then.
        gates: Conditions that fail the run.
        baseline: Results of an earlier run, to compare with.
        explain: Print all notes, and what the columns mean.

    Raises:
        FreezekitError: A model cannot be measured at all.
        OutputError: A file cannot be written. The tables have been printed before.
    """
    console = Console(highlight=False, emoji=False)
    known: tuple[Result, ...] = ()
    for before in (*options.earlier, *replaced):
        known = with_run(known, before)
    asked: list[tuple[Result, Collection[Variant]]] = []
    errors: list[FreezekitError] = []
    writer = _Writer(outputs)
    code = ExitCode.OK
    for number, workload in enumerate(workloads, start=1):
        of_all = f" (model {number} of {len(workloads)})" if len(workloads) > 1 else ""
        with progress(f"{workload.model}{of_all}") as show:
            save = partial(writer.write_also, known)
            run = BenchRun(workload, options, registry, save, show, server)
            try:
                result = run.measure()
            except KeyboardInterrupt:
                result, code = run.interrupted(), ExitCode.INTERRUPTED
            except FreezekitError as error:
                errors.append(error)
                continue
        asked += run.results_asked_for()
        if result.rows:
            known = with_run(known, result)
            print_result(result, console, explain=explain)
        else:
            console.print(f"{workload.model}: nothing is left to measure", markup=False)
        if number == len(workloads) and code != ExitCode.INTERRUPTED and not errors:
            known = tuple(run for run in known if not any(run is old for old in replaced))
        writer.write(known, draw=True)
        if code == ExitCode.INTERRUPTED:
            again = any(run is old for run in known for old in replaced)
            said = _interrupted(writer, workloads[number:], is_kept=result in known, again=again)
            print(said, file=sys.stderr)
            break
        if any(row.status != "ok" for row in result.rows):
            code = ExitCode.PART_FAILED
    if code != ExitCode.INTERRUPTED:
        judged = _judged(asked, gates, baseline, console)
        code = code or judged
    errors += writer.failed
    errors.sort(key=lambda found: found.exit_code == ExitCode.USAGE)  # the last one is raised
    for found in errors if code == ExitCode.INTERRUPTED else errors[:-1]:
        print(f"Error: {found}", file=sys.stderr)
    if errors and code != ExitCode.INTERRUPTED:
        raise errors[-1]
    return code


def _interrupted(writer: _Writer, left: Sequence[Workload], *, is_kept: bool, again: bool) -> str:
    """Say what an interrupted run leaves, and how to continue.

    Args:
        writer: Wrote the files.
        left: Workloads that were not started.
        is_kept: Whether the interrupted run is in the files.
        again: Whether a complete run that it was to replace is still there.
    """
    said = ["interrupted"]
    if writer.written and is_kept:
        said.append(f"what was measured is in {', '.join(writer.written)}")
    elif writer.written:
        said.append(f"an earlier run with more figures stays in {', '.join(writer.written)}")
    if left:
        said.append(f"not started: {', '.join(workload.model for workload in left)}")
    if again:
        said.append(
            "no complete run is lost from the file: the same command measures all rows again, with "
            "--resume only the missing ones"
        )
    elif any(map(holds_results, writer.outputs)):
        said.append("the same command with --resume continues")
    else:
        said.append("with -o FILE.json, --resume can continue next time")
    return "; ".join(said)


def _judged(
    asked: Sequence[tuple[Result, Collection[Variant]]],
    gates: Sequence[Gate],
    baseline: Sequence[Result],
    console: Console,
) -> ExitCode:
    """Print how the results compare with the baseline and what the gates say of them."""
    if baseline and asked:
        for found in pair(baseline, [result for result, _ in asked]):
            console.print()
            print_comparison(found, console)
    judgements = [
        judgement
        for result, variants in asked
        for judgement in judge(gates, result, earlier_rows(baseline, result), variants)
    ]
    return report_gates(gates, judgements)


class _Writer:
    """Writes the files as results come. A failure to write is reported at the end."""

    def __init__(self, outputs: Sequence[str]) -> None:
        self.outputs = outputs
        self._failed: dict[str, OutputError] = {}
        self._written: dict[str, Sequence[Result]] = {}

    @property
    def written(self) -> list[str]:
        """The files that hold the last results."""
        return [path for path in self._written if path not in self._failed]

    @property
    def failed(self) -> list[OutputError]:
        """The errors of the other files."""
        return list(self._failed.values())

    def write_also(self, known: Sequence[Result], result: Result) -> None:
        self.write(with_run(known, result), draw=False)

    def write(self, results: Sequence[Result], *, draw: bool) -> None:
        """Write the files; slow formats, such as those with charts, only with `draw`."""
        measured = [result for result in results if any(row.parameters for row in result.rows)]
        for path in self.outputs if measured else ():
            waits = not draw or self._written.get(path) == measured
            if waits and format_of(path, RESULT_FORMATS).is_slow:
                continue
            self._failed.pop(path, None)
            try:
                write(measured, RESULT_FORMATS, path)
                self._written[path] = measured
            except OutputError as error:
                self._failed[path] = self._explained(error, path)

    def _explained(self, error: OutputError, path: str) -> OutputError:
        """Return an error that also says what the file holds, and how to continue."""
        if path not in self._written:
            return error
        said = [str(error).removesuffix(UNCHANGED), f"it holds {_held(self._written[path])}"]
        if any(map(holds_results, self.outputs)):
            said.append("free some space, then the same command with --resume continues")
        return OutputError("; ".join(said))


def _held(results: Sequence[Result]) -> str:
    """Name the models of the results, and say which are incomplete."""
    parts = "", " in part"
    return ", ".join(f"{run.workload.model}{parts[not run.complete]}" for run in results)


def shortened(text: str, width: int) -> str:
    """Return the text, cut to at most `width` columns, or to 10 where `width` is less.

    Example:
        >>> shortened("first-n-stages:n=2", 20), shortened("first-n-stages:n=2", 10)
        ('first-n-stages:n=2', 'first-n...')
    """
    width = max(10, width)
    return text if cell_len(text) <= width else f"{set_cell_size(text, width - 3).rstrip()}..."


@contextmanager
def progress(model: str) -> Iterator[Callable[[ProgressUpdate], None]]:
    """Show progress on stderr: a line for each phase, and a bar below them on a terminal.

    Both clocks of the bar are those of the phase. How long later phases take is not known.
    """
    console = Console(stderr=True, highlight=False, emoji=False)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(None),
        TimeElapsedColumn(),
        TextColumn("phase left:"),
        TimeRemainingColumn(compact=True),
    )
    phases: list[str] = []
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("starting", total=None)

        def show(now: ProgressUpdate) -> None:
            if now.phase not in phases:
                phases.append(now.phase)
                bar.reset(task)  # its clock starts with the phase
                console.print(f"{model}: {now.phase}", markup=False, soft_wrap=True)
            what = shortened(now.what, console.width - CLOCKS_WIDTH)
            bar.update(task, description=what, completed=now.done, total=now.total)

        yield show
