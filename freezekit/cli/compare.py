"""`freezekit compare`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from freezekit.cli.gates import (
    GateType,
    SweepGateType,
    fail_if_option_of_any,
    read_gates,
    report_gates,
)
from freezekit.cli.sweep_file import is_sweep
from freezekit.errors import CompareError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from freezekit.errors import ExitCode
    from freezekit.results.records import Result


@click.command()
@click.argument("old", type=click.Path())
@click.argument("new", type=click.Path())
@fail_if_option_of_any
@click.option("--absolute", is_flag=True, help="Step times in ms too, of one environment.")
@click.option("--force", is_flag=True, help="With --absolute: of different environments too.")
@click.option("--markdown", is_flag=True, help="Print Markdown, such as for a pull request.")
def compare(
    old: str, new: str, gates: tuple[str, ...], absolute: bool, force: bool, markdown: bool
) -> None:
    """Compare two result files, row by row.

    Bytes and FLOPs are compared exactly. Times are compared as ratios: each run's own ratio to
    `full`, the new one over the old one, with its interval; that holds across machines too.
    `baseline` in a gate is the old file's row. Two files of `freezekit sweep` are compared by
    accuracy, paired by seed and by image where both have the same images.

    Exit codes: 0 compared and all gates passed, 1 a gate failed, 2 wrong usage, 3 too noisy to say.

    \b
    Examples:
      freezekit compare old.json new.json
      freezekit compare old.json new.json --fail-if 'peak_bytes > baseline * 1.01'
      freezekit compare a.json b.json --fail-if 'accuracy < baseline - 0.01'
    """  # noqa: D301  # click reads the character
    from rich.console import Console

    are_sweeps = [is_sweep(path) for path in (old, new)]
    console = Console(highlight=False, emoji=False)
    if all(are_sweeps):
        if absolute:
            raise click.UsageError("--absolute is for results of `freezekit bench`: leave it out")
        sys.exit(_compare_sweeps(old, new, gates, console, markdown=markdown))
    if any(are_sweeps):
        raise CompareError(
            f"{(old, new)[are_sweeps.index(True)]!r} is of `freezekit sweep`, and the other file "
            "is not; name two of one command"
        )
    sys.exit(_compare_results(old, new, gates, console, absolute, force, markdown))


def _compare_sweeps(
    old: str, new: str, conditions: Sequence[str], console: Console, *, markdown: bool
) -> ExitCode:
    from freezekit.compare.sweep_pairing import pair_sweeps
    from freezekit.compare.sweep_show import print_sweeps, sweeps_markdown
    from freezekit.gate.judge_sweep import check_sweep_gates, judge_sweep
    from freezekit.sweep.store import load_sweep

    gates = read_gates(conditions, SweepGateType())
    before, after = load_sweep(old), load_sweep(new)
    labels = [row.candidate.label for row in after.rows]
    check_sweep_gates(gates, labels, has_baseline=True)
    pair = pair_sweeps(before, after)
    if markdown:
        click.echo(sweeps_markdown(pair), nl=False)
    else:
        print_sweeps(pair, console)
    return report_gates(gates, judge_sweep(gates, after, before))


def _compare_results(
    old: str,
    new: str,
    conditions: Sequence[str],
    console: Console,
    absolute: bool,
    force: bool,
    markdown: bool,
) -> ExitCode:
    from freezekit.compare.pairing import earlier_rows, pair, unpaired
    from freezekit.compare.show import check_absolute, comparison_markdown, print_comparison
    from freezekit.gate.judge import check_gates, judge
    from freezekit.results.store import load

    gates = read_gates(conditions, GateType())
    before, after = load(old), load(new)
    check_gates(gates, [row.variant for run in after for row in run.rows])
    pairs = pair(before, after)
    if absolute and not force:
        for found in pairs:
            check_absolute(found)
    names = repr(old), repr(new)
    for i, found in enumerate(pairs):
        if i:
            click.echo()
        if markdown:
            click.echo(comparison_markdown(found, absolute=absolute, names=names), nl=False)
        else:
            print_comparison(found, console, absolute=absolute, names=names)
    for name, results, others in ((names[0], before, after), (names[1], after, before)):
        for run in unpaired(results, others):
            click.echo(f"\nonly in {name}: {_told_apart(run, others)}")
    judged = [j for run in after for j in judge(gates, run, earlier_rows(before, run))]
    return report_gates(gates, judged)


def _told_apart(run: Result, others: Sequence[Result]) -> str:
    """Return a run's title, and what it leaves out where one of the others has the same."""
    from freezekit.compare.pairing import apart
    from freezekit.report.cells import title

    said = title(run)
    for other in others:
        if title(replace(other, env=run.env)) == said:
            return f"{said}; {apart(run.workload, other.workload)}"
    return said
