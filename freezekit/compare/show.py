"""A comparison as a reader sees it: a table in the terminal, or the same as Markdown."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from freezekit.compare.caveats import SIDES, comparison_notes
from freezekit.compare.differences import COMPARED, Difference, differences
from freezekit.errors import CompareError
from freezekit.report import formatting
from freezekit.report.cells import Column, tabulate, title
from freezekit.report.markdown import markdown_table
from freezekit.report.table import heading, note_lines, table_lines

if TYPE_CHECKING:
    from rich.console import Console

    from freezekit.compare.pairing import Pair
    from freezekit.results.figures import Figure
    from freezekit.results.records import Row


def print_comparison(
    pair: Pair, console: Console, *, absolute: bool = False, names: tuple[str, str] = SIDES
) -> None:
    """Print how the new run differs from the old one, as wide as the console.

    Args:
        pair: The runs.
        console: Where to print.
        absolute: Step times in ms too.
        names: How notes call the two runs, such as by their files.
    """
    found, width, encoding = differences(pair), console.width, console.encoding
    console.print(
        Group(
            heading(_title(pair), width, encoding),
            Text(),
            *_table(found, _columns(absolute), width, encoding),
            *note_lines(comparison_notes(pair, found, names), width, encoding),
        )
    )


def _table(
    found: tuple[Difference, ...], columns: tuple[Column, ...], width: int, encoding: str
) -> list[Text]:
    """Return the table's lines; on a narrow terminal sizes give way to their changes."""
    cells = tabulate(columns, [(difference,) for difference in found])
    lines = table_lines(cells, [difference.label for difference in found], width, encoding)
    if max(map(len, lines)) <= width or _SIZES.isdisjoint(columns):
        return lines
    return _table(found, tuple(c for c in columns if c not in _SIZES), width, encoding)


def comparison_markdown(
    pair: Pair, *, absolute: bool = False, names: tuple[str, str] = SIDES
) -> str:
    """Return the same as Markdown."""
    found = differences(pair)
    cells = tabulate(_columns(absolute), [(difference,) for difference in found])
    notes = comparison_notes(pair, found, names)
    return markdown_table(_title(pair), cells, [d.label for d in found], notes)


def check_absolute(pair: Pair) -> None:
    """Raise where step times in seconds are not to be compared.

    Raises:
        CompareError: The runs are of different environments; the message says in what.
    """
    if pair.elsewhere:
        raise CompareError(
            f"step times in ms are not comparable, the environments differ: "
            f"{', '.join(pair.elsewhere)}; leave --absolute out (ratios to full stay comparable), "
            "or give --force"
        )


def _title(pair: Pair) -> str:
    started = [str(run.env.get("started") or "?") for run in (pair.old, pair.new)]
    return f"{title(pair.new)}: {started[0]} -> {started[1]}"


def _columns(absolute: bool) -> tuple[Column, ...]:
    return (
        *chain(*_COUNTS),
        *(_ABSOLUTE if absolute else ()),
        Column("new ratio / old ratio [95% interval]", ("ratio,", "new / old"), _time, False),
        Column("verdict", ("verdict", ""), lambda d: d.time.verdict if d.time else "", False),
    )


def _count_columns(figure: Figure) -> tuple[Column, ...]:
    """Return the new size of a figure, where it is of memory, and its change."""
    assert figure.heading is not None
    title, short = figure.heading.title, figure.heading.short
    label = formatting.LABELS[figure.unit]

    def size(difference: Difference) -> str:
        return formatting.figure(difference.counts[figure.name].new, figure.unit)

    def change(difference: Difference) -> str:
        return formatting.change(difference.counts[figure.name].change)

    sizes = [Column(f"{title}, {label}", (short, label), size)] if figure.unit == "bytes" else []
    return (*sizes, Column(f"{title}, change", (short, "change"), change))


_COUNTS = tuple(map(_count_columns, COMPARED))
_SIZES = {columns[0] for columns in _COUNTS if len(columns) > 1}


def _step(row: Row) -> str:
    return formatting.milliseconds(row.time.step_seconds.median if row.time else None)


_ABSOLUTE = (
    Column("old step, ms", ("old", "ms"), lambda d: _step(d.old)),
    Column("new step, ms", ("new", "ms"), lambda d: _step(d.new)),
)


def _time(difference: Difference) -> str:
    time = difference.time
    return formatting.ratio(time.ratio, time.ci, time.verdict) if time else formatting.MISSING
