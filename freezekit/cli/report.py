"""`freezekit report`."""

from __future__ import annotations

import click


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="RESULTS.json...", type=click.Path())
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    required=True,
    metavar="FILE",
    type=click.Path(),
    help="Write .html, .md, .csv or .json; may be given several times. Replaces only what "
    "freezekit wrote.",
)
def report(inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
    """Make a report of stored results: charts and tables in one file.

    RESULTS.json is what `freezekit bench -o` wrote; of several, all results are put one after the
    other. HTML is one self-contained file that opens without a network.

    \b
    Examples:
      freezekit report atto.json -o atto.html
      freezekit report resnet.json vit.json -o both.html -o both.md
    """  # noqa: D301  # click reads the character
    from freezekit.report.formats import RESULT_FORMATS
    from freezekit.report.output import check_replaceable, check_writable, write
    from freezekit.results.locking import locked
    from freezekit.results.store import load

    for path in outputs:
        check_writable(path, RESULT_FORMATS)
    with locked(outputs):
        for path in outputs:
            check_replaceable(path, RESULT_FORMATS)
        write([run for path in inputs for run in load(path)], RESULT_FORMATS, *outputs)
