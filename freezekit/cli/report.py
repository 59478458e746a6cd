"""`freezekit report`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from freezekit.cli.options import OUTPUT_HELP
from freezekit.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.results.records import Result


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="RESULTS.json...", type=click.Path())
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    metavar="FILE",
    type=click.Path(),
    help=f"{OUTPUT_HELP} Without -o the tables are printed.",
)
@click.option(
    "--explain", is_flag=True, help="Print the tables with all notes, and what the columns mean."
)
def report(inputs: tuple[str, ...], outputs: tuple[str, ...], explain: bool) -> None:
    """Make a report of stored results: charts and tables in one file.

    RESULTS.json is what `freezekit bench -o` wrote; of several, all results are put one after the
    other. HTML is one self-contained file that opens without a network.

    \b
    Examples:
      freezekit report atto.json
      freezekit report atto.json -o atto.html
      freezekit report resnet.json vit.json -o both.html -o both.md
      freezekit report atto.json --explain
    """  # noqa: D301  # click reads the character
    from freezekit.report.formats import RESULT_FORMATS
    from freezekit.report.output import check_replaceable, check_writable, write
    from freezekit.results.locking import locked
    from freezekit.results.store import load

    read = {os.path.realpath(path) for path in inputs}
    for path in outputs:
        if os.path.realpath(path) in read:
            raise OutputError(
                f"cannot write {path!r}: it is one of the results to read; name another file"
            )
        check_writable(path, RESULT_FORMATS)
    with locked(outputs):
        for path in outputs:
            check_replaceable(path, RESULT_FORMATS)
        results = [result for path in inputs for result in load(path)]
        write(results, RESULT_FORMATS, *outputs)
    if explain or not outputs:
        _print(results, explain)


def _print(results: Sequence[Result], explain: bool) -> None:
    from rich.console import Console

    from freezekit.report.table import print_result

    console = Console(highlight=False, emoji=False)
    for i, result in enumerate(results):
        if i:
            console.print()
        print_result(result, console, explain=explain)
