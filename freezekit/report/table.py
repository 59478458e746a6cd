"""The terminal table: figures in columns, and under it what is to be said of them.

From about 110 columns on a row is one line; below, the strategy has a line of its own above its
figures; below about 75, the verdict stands beside the strategy.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Group
from rich.text import Text

from freezekit.report.cells import Cells, cells, title
from freezekit.report.formatting import plain
from freezekit.report.note_records import SHOWN_FIRST, wrapped
from freezekit.report.notes import notes
from freezekit.report.over_time import (
    phase_cells,
    phase_labels,
    rows_of_strategies,
    schedule_title,
    whole_run,
)
from freezekit.report.short_form import short_form

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, RenderableType

    from freezekit.report.note_records import Kind, Note, Notes
    from freezekit.results.records import Result, ScheduleCost

INDENT = 2
STRATEGY_WIDTH = 28  # a column narrower than this is no use to most specs
STYLES = {
    "faster": "green",
    "slower": "red",
    "out of memory": "red",
    "error": "red",
    "diverged": "red",
    "recommended": "green",
    "no difference shown": "dim",
    "baseline": "dim",
    "interrupted": "bold yellow",
    "failed": "red",
    "warning": "yellow",
}
HEADINGS: dict[str, Kind] = {"In detail": "detail", "What the columns mean": "definition"}


@dataclass(frozen=True)
class Layout:
    """How wide everything is.

    Attributes:
        strategy: Width of the strategy's column; 0 where it has a line of its own.
        figures: Widths of the other columns.
        gap: Blanks between columns of numbers; before text there are always two.
        verdict_beside_strategy: Whether the verdict left the columns.
    """

    strategy: int
    figures: tuple[int, ...]
    gap: int
    verdict_beside_strategy: bool = False


def print_result(result: Result, console: Console, *, explain: bool = False) -> None:
    """Print the table and its notes, as wide as the console.

    `explain` prints all notes and what the columns mean, instead of at most ten lines. What the
    console's encoding cannot express is escaped; rich leaves out colour by itself where the output
    is no terminal.
    """
    console.print(render_table(result, console.width, console.encoding, explain=explain))


def render_table(
    result: Result, width: int, encoding: str = "utf-8", *, explain: bool = False
) -> RenderableType:
    """Return the table and its notes for a terminal of that many columns.

    Args:
        result: One model's result.
        width: Columns of the terminal.
        encoding: Of the terminal; characters it lacks are escaped.
        explain: All notes and what the columns mean, instead of at most ten lines.

    Example:
        >>> from rich.console import Console
        >>> from freezekit.results.records import Parameters, Result, Row, Workload
        >>> row = Row("full", parameters=Parameters(100, 100, "a"))
        >>> result = Result("0.1.0", Workload("timm:resnet18"), {}, (row,), complete=True)
        >>> Console(width=60, no_color=True).print(render_table(result, 60))
        timm:resnet18, batch 8, float32, sgd, cpu
        <BLANKLINE>
              train-
                able
        ------------
        full    100%
        <BLANKLINE>
        definitions: --explain
    """
    rows = rows_of_strategies(result)
    labels = [row.label for row in rows]
    return Group(
        heading(title(result), width, encoding),
        Text(),
        *table_lines(cells(result, rows), labels, width, encoding),
        *(line for one in result.schedules for line in _phases(result, one, width, encoding)),
        *note_lines(notes(result), width, encoding, explain=explain),
    )


def _phases(result: Result, schedule: ScheduleCost, width: int, encoding: str) -> list[Text]:
    found, labels = phase_cells(result, schedule), phase_labels(schedule)
    whole = textwrap.wrap(_escape(whole_run(result, schedule), encoding), width)
    return [
        Text(),
        heading(schedule_title(schedule), width, encoding),
        Text(),
        *table_lines(found, labels, width, encoding),
        Text("\n".join(whole), style="bold"),
    ]


def heading(text: str, width: int, encoding: str) -> Text:
    """Return what stands above a table."""
    lines = textwrap.wrap(_escape(text, encoding), width, break_on_hyphens=False)
    return Text("\n".join(lines), style="bold")


def table_lines(found: Cells, labels: Sequence[str], width: int, encoding: str) -> list[Text]:
    """Return the lines of a table, its header first."""
    names = [_escape(plain(label), encoding) for label in labels]
    layout = _layout(found, names, width)
    lines = _header(found, layout) if found.columns else []
    for name, texts in zip(names, found.rows, strict=True):
        lines += _row(name, texts, found, layout)
    return lines


def note_lines(said: Notes, width: int, encoding: str, *, explain: bool = False) -> list[Text]:
    """Return notes as the lines of a list, set off from what is above.

    By default these are at most ten lines of 80 columns, the last of which tells what is left out;
    with `explain` all notes, details and definitions under headings.
    """
    if explain:
        lines = _list(said.of(*SHOWN_FIRST), width, encoding)
        for title, kind in HEADINGS.items():
            found = _list(said.of(kind), width, encoding)
            lines += [Text(), Text(title, style="dim"), *found] if found else []
        return [Text(), *lines] if lines else []
    short = short_form(said)
    lines = _list(short.shown, width, encoding)
    if short.left_out:
        left_out = f"{short.left_out}: {said.how_to_see_all}"
        lines += [Text("\n".join(textwrap.wrap(left_out, width)), style="dim")]
    return [Text(), *lines] if lines else []


def _list(said: Sequence[Note], width: int, encoding: str) -> list[Text]:
    """Return notes as list items, their further lines indented."""
    return [
        Text("- " + "\n  ".join(wrapped(_escape(n.text, encoding), width)), STYLES.get(n.kind, ""))
        for n in said
    ]


def _layout(found: Cells, names: list[str], width: int) -> Layout:
    figures = tuple(
        max(cell_len(text) for text in (*column.head, *(row[i] for row in found.rows)))
        for i, column in enumerate(found.columns)
    )
    longest = max((cell_len(name) for name in names), default=0)
    room = width - _columns_width(found, figures, gap=2) - 2
    if longest <= room or room >= STRATEGY_WIDTH:
        fitting = [cell_len(name) for name in names if cell_len(name) <= room]
        return Layout(max(fitting, default=INDENT), figures, gap=2)
    for gap in (2, 1):
        if INDENT + _columns_width(found, figures, gap) <= width:
            return Layout(0, figures, gap)
    has_verdict = found.columns[-1].title == "verdict"
    return Layout(0, figures, gap=1, verdict_beside_strategy=has_verdict)


def _columns_width(found: Cells, figures: tuple[int, ...], gap: int) -> int:
    return sum(figures) + sum(gap if c.is_number else 2 for c in found.columns[1:])


def _header(found: Cells, layout: Layout) -> list[Text]:
    lines = [_line([column.head[i] for column in found.columns], found, layout) for i in (0, 1)]
    for line in lines:
        line.stylize("dim")
    last = len(layout.figures) - layout.verdict_beside_strategy
    start = layout.strategy + 2 if layout.strategy else INDENT
    whole = replace(found, columns=found.columns[:last])
    rule = start + _columns_width(whole, layout.figures[:last], layout.gap)
    return [*lines, Text("-" * rule, style="dim")]


def _row(name: str, texts: tuple[str, ...], found: Cells, layout: Layout) -> list[Text]:
    if not texts:
        return [Text(name, style="bold")]
    figures = _line(list(texts), found, layout)
    if layout.strategy and cell_len(name) <= layout.strategy:
        pad = " " * (layout.strategy - cell_len(name))
        return [Text().append(name, style="bold").append(pad) + figures[layout.strategy :]]
    heading = Text().append(name, style="bold")
    if layout.verdict_beside_strategy and texts[-1]:
        heading.append(f": {texts[-1]}", style=STYLES.get(texts[-1], ""))
    return [heading, figures]


def _line(texts: list[str], found: Cells, layout: Layout) -> Text:
    last = len(texts) - layout.verdict_beside_strategy
    line = Text(" " * (layout.strategy + 2 if layout.strategy else INDENT))
    for i, (text, column) in enumerate(zip(texts[:last], found.columns[:last], strict=True)):
        gap = " " * (layout.gap if column.is_number else 2) if i else ""
        pad = " " * (layout.figures[i] - cell_len(text))
        style = STYLES.get(text, "") if column.title == "verdict" else ""
        if column.is_number:
            line.append(gap + pad).append(text)
        else:
            line.append(gap).append(text, style=style).append(pad)
    line.rstrip()
    return line


def _escape(text: str, encoding: str) -> str:
    return text.encode(encoding, errors="backslashreplace").decode(encoding)
