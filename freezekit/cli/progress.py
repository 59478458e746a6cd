"""What a person sees of a bench run, and the files that it leaves."""

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
from freezekit.bench.run import Doing, Options, Run
from freezekit.cli.gates import tell
from freezekit.compare.pairing import earlier_rows, pair
from freezekit.compare.show import print_comparison
from freezekit.errors import FreezekitError, OutputError
from freezekit.gate.judge import judge
from freezekit.report.formats import RESULT_FORMATS, holds_results
from freezekit.report.output import format_of, write
from freezekit.report.table import print_result
from freezekit.results.files import UNCHANGED

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from freezekit.gate.judge import Gate
    from freezekit.plugins.registry import Registry
    from freezekit.results.records import Result, Workload
    from freezekit.results.variant import Variant

INTERRUPTED = 130
STRATEGY_FAILED = 4
USAGE = 2
CLOCKS_WIDTH = 42  # of a bar that can still be read, and the times beside it


def run_all(
    workloads: Sequence[Workload],
    options: Options,
    registry: Registry,
    outputs: Sequence[str],
    *,
    replaced: Sequence[Result] = (),
    gates: Sequence[Gate] = (),
    baseline: Sequence[Result] = (),
    explain: bool = False,
) -> int:
    """Measure one workload after another, print a table for each, and return the exit code.

    The files hold, at any moment, all that was measured until then, and what `options.earlier`
    holds; HTML, whole models. What `replaced` holds goes once every model was measured, so that an
    interruption loses no whole run. A model that cannot be measured at all costs its own results
    only; its reason is told last. Gates judge what was asked for, whether it was measured now or
    before.

    Args:
        workloads: One for each model.
        options: What is measured of each.
        registry: Where strategies are looked up.
        outputs: Files to write.
        replaced: Whole runs that the files hold until then.
        gates: Conditions that fail the run.
        baseline: Results of an earlier run, to compare with.
        explain: Print all notes, and what the columns mean.

    Raises:
        FreezekitError: A model cannot be measured at all.
        OutputError: A file cannot be written; the tables have been printed all the same.
    """
    console = Console(highlight=False, emoji=False)
    known: tuple[Result, ...] = ()
    for before in (*options.earlier, *replaced):
        known = with_run(known, before)
    asked: list[tuple[Result, Collection[Variant]]] = []
    errors: list[FreezekitError] = []
    writer = _Writer(outputs)
    code = 0
    for number, workload in enumerate(workloads, start=1):
        of_all = f" (model {number} of {len(workloads)})" if len(workloads) > 1 else ""
        with progress(f"{workload.model}{of_all}") as show:
            run = Run(workload, options, registry, partial(writer.write_also, known), show)
            try:
                result = run.measure()
            except KeyboardInterrupt:
                result, code = run.interrupted(), INTERRUPTED
            except FreezekitError as error:
                errors.append(error)
                continue
        asked += run.asked()
        if result.rows:
            known = with_run(known, result)
            print_result(result, console, explain=explain)
        else:
            console.print(f"{workload.model}: nothing is left to measure", markup=False)
        if number == len(workloads) and code != INTERRUPTED and not errors:
            known = tuple(run for run in known if not any(run is old for old in replaced))
        writer.write(known, draw=True)
        if code == INTERRUPTED:
            again = any(run is old for run in known for old in replaced)
            said = _interrupted(writer, workloads[number:], is_kept=result in known, again=again)
            print(said, file=sys.stderr)
            break
        if any(row.status != "ok" for row in result.rows):
            code = STRATEGY_FAILED
    if code != INTERRUPTED:
        judged = _judged(asked, gates, baseline, console)
        code = code or judged
    errors += writer.failed
    errors.sort(key=lambda found: found.exit_code == USAGE)  # the last one is raised
    for found in errors if code == INTERRUPTED else errors[:-1]:
        print(f"Error: {found}", file=sys.stderr)
    if errors and code != INTERRUPTED:
        raise errors[-1]
    return code


def _interrupted(writer: _Writer, left: Sequence[Workload], *, is_kept: bool, again: bool) -> str:
    """Tell what an interrupted run leaves, and how to go on; `again`: beside what it replaces."""
    said = ["interrupted"]
    if writer.written and is_kept:
        said.append(f"what was measured is in {', '.join(writer.written)}")
    elif writer.written:
        said.append(f"an earlier run, which got further, stays in {', '.join(writer.written)}")
    if left:
        said.append(f"not started: {', '.join(workload.model for workload in left)}")
    if again:
        said.append(
            "no whole run that was there is lost: the same command measures all anew, with "
            "--resume only what the file lacks"
        )
    elif any(map(holds_results, writer.outputs)):
        said.append("the same command with --resume goes on")
    else:
        said.append("with -o FILE.json, --resume can go on next time")
    return "; ".join(said)


def _judged(
    asked: Sequence[tuple[Result, Collection[Variant]]],
    gates: Sequence[Gate],
    baseline: Sequence[Result],
    console: Console,
) -> int:
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
    return tell(gates, judgements)


class _Writer:
    """Writes the files as results come; a failure is kept for the end, so as to lose nothing."""

    def __init__(self, outputs: Sequence[str]) -> None:
        self.outputs = outputs
        self._failed: dict[str, OutputError] = {}
        self._written: dict[str, Sequence[Result]] = {}

    @property
    def written(self) -> list[str]:
        """The files that hold what was written last."""
        return [path for path in self._written if path not in self._failed]

    @property
    def failed(self) -> list[OutputError]:
        """Why the others could not be written."""
        return list(self._failed.values())

    def write_also(self, known: Sequence[Result], result: Result) -> None:
        self.write(with_run(known, result), draw=False)

    def write(self, results: Sequence[Result], *, draw: bool) -> None:
        """Write slow formats, such as charts, only where told."""
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
                self._failed[path] = self._told(error, path)

    def _told(self, error: OutputError, path: str) -> OutputError:
        """Return a failure with what this run wrote before, and how to go on."""
        if path not in self._written:
            return error
        said = [str(error).removesuffix(UNCHANGED), f"it holds {_held(self._written[path])}"]
        if any(map(holds_results, self.outputs)):
            said.append("make room, then the same command with --resume goes on")
        return OutputError("; ".join(said))


def _held(results: Sequence[Result]) -> str:
    """Say which models results are of, and which of them are not whole."""
    parts = "", " in part"
    return ", ".join(f"{run.workload.model}{parts[not run.complete]}" for run in results)


def shortened(text: str, width: int) -> str:
    """Return a text that is at most so many columns wide, at least 10.

    Example:
        >>> shortened("first-n-stages:n=2", 20), shortened("first-n-stages:n=2", 10)
        ('first-n-stages:n=2', 'first-n...')
    """
    width = max(10, width)
    return text if cell_len(text) <= width else f"{set_cell_size(text, width - 3).rstrip()}..."


@contextmanager
def progress(model: str) -> Iterator[Callable[[Doing], None]]:
    """Show progress on stderr: a line for each phase, and a bar below them on a terminal.

    Both clocks of the bar are the phase's; nobody knows how long the others will take.
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

        def show(doing: Doing) -> None:
            if doing.phase not in phases:
                phases.append(doing.phase)
                bar.reset(task)  # its clock tells the time of a phase
                console.print(f"{model}: {doing.phase}", markup=False, soft_wrap=True)
            what = shortened(doing.what, console.width - CLOCKS_WIDTH)
            bar.update(task, description=what, completed=doing.done, total=doing.total)

        yield show
