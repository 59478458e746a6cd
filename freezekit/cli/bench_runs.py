"""A `freezekit bench` of several models, from the first to the exit code."""

from __future__ import annotations

import sys
from functools import reduce
from typing import TYPE_CHECKING

from rich.console import Console

from freezekit.bench.resuming import with_run
from freezekit.cli.gates import report_gates
from freezekit.cli.measured import here, on_engine
from freezekit.cli.result_files import ResultFiles
from freezekit.compare.pairing import earlier_rows, pair
from freezekit.compare.show import print_comparison
from freezekit.errors import ExitCode, FreezekitError
from freezekit.gate.judge import judge
from freezekit.report.formats import holds_results
from freezekit.report.table import print_result

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from freezekit.bench.forked import ForkServer
    from freezekit.bench.run import BenchOptions
    from freezekit.engines.records import Engine
    from freezekit.gate.judge import Gate
    from freezekit.plugins.registry import Registry
    from freezekit.results.records import Result, Workload
    from freezekit.results.variant import Variant


def run_all(
    workloads: Sequence[Workload],
    options: BenchOptions,
    registry: Registry,
    outputs: Sequence[str],
    server: ForkServer | None = None,
    *,
    engine: Engine | None = None,
    replaced: Sequence[Result] = (),
    gates: Sequence[Gate] = (),
    baseline: Sequence[Result] = (),
    explain: bool = False,
) -> ExitCode:
    """Measure all workloads, print a table for each as it comes, and return the exit code.

    At any time the files hold all that was measured until then, in the order of the workloads, and
    the runs in `options.earlier`. HTML holds complete models only. The runs in `replaced` are
    removed once every model was measured, so that an interruption loses no complete run. A model
    that cannot be measured at all loses its own results only; its error is shown last. Gates judge
    all rows that were asked for, measured now or before.

    Args:
        workloads: One for each model.
        options: What is measured of each.
        registry: Where strategies are looked up.
        outputs: Files to write.
        server: Forks the processes; None to start each anew.
        engine: Runs one model at a time on each host; None to measure one after the other here.
        replaced: Complete runs that the files hold until then.
        gates: Conditions that fail the run.
        baseline: Results of an earlier run, to compare with.
        explain: Print all notes, and what the columns mean.

    Raises:
        FreezekitError: A model cannot be measured at all.
        OutputError: A file cannot be written. The tables have been printed before.
    """
    console = Console(highlight=False, emoji=False)
    nothing: tuple[Result, ...] = ()
    before = reduce(with_run, (*options.earlier, *replaced), nothing)
    known = before
    results: dict[Workload, Result] = {}
    asked: list[tuple[Result, Collection[Variant]]] = []
    errors: list[FreezekitError] = []
    writer = ResultFiles(outputs)
    code = ExitCode.OK
    left = list(workloads)
    if engine is None:
        all_measured = here(
            workloads, options, registry, server, lambda result: writer.write_also(known, result)
        )
    else:
        all_measured = on_engine(workloads, options, engine)
    for measured in all_measured:
        workload, result = measured.workload, measured.result
        if workload is not None:
            left.remove(workload)
        if measured.error is not None:
            errors.append(measured.error)
            continue
        asked += measured.asked
        if workload is not None and result is not None:
            results[workload] = result
            known = reduce(with_run, [results[one] for one in workloads if one in results], before)
            print_result(result, console, explain=explain)
        elif workload is not None:
            console.print(f"{workload.model}: nothing is left to measure", markup=False)
        if not left and not measured.is_interrupted and not errors:
            known = tuple(run for run in known if not any(run is old for old in replaced))
        writer.write(known, draw=True)
        if measured.is_interrupted:
            code = ExitCode.INTERRUPTED
            again = any(run is old for run in known for old in replaced)
            is_kept = result is None or result in known
            print(_interrupted(writer, left, is_kept=is_kept, again=again), file=sys.stderr)
            break
        if result is not None and any(row.status != "ok" for row in result.rows):
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


def _interrupted(
    writer: ResultFiles, left: Sequence[Workload], *, is_kept: bool, again: bool
) -> str:
    """Say what an interrupted run leaves, and how to continue.

    Args:
        writer: Wrote the files.
        left: Workloads that were not started; on an engine, those that were not done.
        is_kept: Whether the interrupted run, if it is known, is in the files.
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
