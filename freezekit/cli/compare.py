"""`freezekit compare`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from freezekit.cli.gates import fail_if_option, report_gates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.gate.judge import Gate
    from freezekit.results.records import Result


@click.command()
@click.argument("old", type=click.Path())
@click.argument("new", type=click.Path())
@fail_if_option
@click.option("--absolute", is_flag=True, help="Step times in ms too, of one environment.")
@click.option("--force", is_flag=True, help="With --absolute: of different environments too.")
@click.option("--markdown", is_flag=True, help="Print Markdown, such as for a pull request.")
def compare(
    old: str, new: str, gates: tuple[Gate, ...], absolute: bool, force: bool, markdown: bool
) -> None:
    """Compare two result files, row by row.

    Bytes and FLOPs are compared exactly. Times are compared as ratios: each run's own ratio to
    `full`, the new one over the old one, with its interval; that holds across machines too.
    `baseline` in a gate is the old file's row.

    Exit codes: 0 compared and all gates passed, 1 a gate failed, 2 wrong usage, 3 too noisy to say.

    \b
    Examples:
      freezekit compare old.json new.json
      freezekit compare old.json new.json --fail-if 'peak_bytes > baseline * 1.01'
    """  # noqa: D301  # click reads the character
    from rich.console import Console

    from freezekit.compare.pairing import earlier_rows, pair, unpaired
    from freezekit.compare.show import check_absolute, comparison_markdown, print_comparison
    from freezekit.gate.judge import check_gates, judge
    from freezekit.results.store import load

    before, after = load(old), load(new)
    check_gates(gates, [row.variant for run in after for row in run.rows])
    pairs = pair(before, after)
    if absolute and not force:
        for found in pairs:
            check_absolute(found)
    console = Console(highlight=False, emoji=False)
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
    sys.exit(report_gates(gates, judged))


def _told_apart(run: Result, others: Sequence[Result]) -> str:
    """Return a run's title, and what it leaves out where one of the others has the same."""
    from freezekit.compare.pairing import apart
    from freezekit.report.cells import title

    said = title(run)
    for other in others:
        if title(replace(other, env=run.env)) == said:
            return f"{said}; {apart(run.workload, other.workload)}"
    return said
