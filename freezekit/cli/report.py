"""`freezekit report`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

import click

from freezekit.cli.options import OUTPUT_HELP, output_option
from freezekit.cli.sweep_file import is_sweep
from freezekit.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from freezekit.report.output import Format
    from freezekit.results.records import Result

T = TypeVar("T")


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="RESULTS.json...", type=click.Path())
@output_option(f"{OUTPUT_HELP} Without -o the tables are printed.")
@click.option(
    "--explain", is_flag=True, help="Print the tables with all notes, and what the columns mean."
)
def report(inputs: tuple[str, ...], outputs: tuple[str, ...], explain: bool) -> None:
    """Make a report of stored results: charts and tables in one file.

    RESULTS.json is what `freezekit bench -o` wrote; of several, all results are put one after the
    other. It may also be one file of `freezekit sweep -o`. HTML is one self-contained file that
    opens without a network.

    \b
    Examples:
      freezekit report atto.json
      freezekit report atto.json -o atto.html
      freezekit report resnet.json vit.json -o both.html -o both.md
      freezekit report atto.json --explain
      freezekit report sweep.json -o sweep.html
    """  # noqa: D301  # click reads the character
    read = {os.path.realpath(path) for path in inputs}
    for path in outputs:
        if os.path.realpath(path) in read:
            raise OutputError(
                f"cannot write {path!r}: it is one of the results to read; name another file"
            )
    sweeps = [path for path in inputs if is_sweep(path)]
    if sweeps and (len(sweeps) < len(inputs) or (outputs and len(sweeps) > 1)):
        raise OutputError(
            f"{sweeps[0]!r} is of `freezekit sweep`, of which one is reported at a time, and apart "
            "from results of `freezekit bench`; name it alone"
        )
    if sweeps:
        _report_sweeps(sweeps, outputs, explain)
    else:
        _report_results(inputs, outputs, explain)


def _report_results(inputs: Sequence[str], outputs: Sequence[str], explain: bool) -> None:
    from rich.console import Console

    from freezekit.report.formats import RESULT_FORMATS
    from freezekit.report.table import print_result
    from freezekit.results.store import load

    results: list[Result] = []

    def content() -> list[Result]:
        results.extend(result for path in inputs for result in load(path))
        return results

    _write(content, RESULT_FORMATS, outputs)
    if explain or not outputs:
        console = Console(highlight=False, emoji=False)
        for i, result in enumerate(results):
            if i:
                console.print()
            print_result(result, console, explain=explain)


def _report_sweeps(inputs: Sequence[str], outputs: Sequence[str], explain: bool) -> None:
    from rich.console import Console

    from freezekit.report.formats import SWEEP_FORMATS
    from freezekit.report.sweep_table import print_sweep
    from freezekit.sweep.store import load_sweep

    sweeps = [load_sweep(path) for path in inputs]
    _write(lambda: sweeps[0], SWEEP_FORMATS, outputs)
    if explain or not outputs:
        console = Console(highlight=False, emoji=False)
        for i, sweep in enumerate(sweeps):
            if i:
                console.print()
            print_sweep(sweep, console, explain=explain)


def _write(content: Callable[[], T], formats: Sequence[Format[T]], outputs: Sequence[str]) -> None:
    """Write what was read to all outputs, if all can be written."""
    from freezekit.report.output import check_replaceable, check_writable, write
    from freezekit.results.locking import locked

    for path in outputs:
        check_writable(path, formats)
    with locked(outputs):
        for path in outputs:
            check_replaceable(path, formats)
        write(content(), formats, *outputs)
