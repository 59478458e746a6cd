"""The table of a result with what its columns sort by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezekit.report.cells import cells
from freezekit.report.formatting import MISSING
from freezekit.report.html.drawing import numbered
from freezekit.results.figures import FIGURES

if TYPE_CHECKING:
    from freezekit.results.records import Result


@dataclass(frozen=True)
class Head:
    """A column: its title, whether it is sorted as numbers, whether it is one of plain figures."""

    title: str
    is_number: bool
    is_raw: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell: its text, and the number that it is sorted by, "" where there is none."""

    text: str
    value: str


@dataclass(frozen=True)
class Line:
    """A row of the table."""

    number: int
    name: str
    status: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Sortable:
    """The table: heads of the columns after number and strategy, and lines."""

    heads: tuple[Head, ...]
    lines: tuple[Line, ...]


def sortable(result: Result) -> Sortable:
    """Return the columns of the terminal's table, and all figures in bytes, seconds and fractions.

    Example:
        >>> from freezekit.results.records import Parameters, Result, Row, Workload
        >>> row = Row("head-only", parameters=Parameters(200, 50, "a1"))
        >>> found = sortable(Result("0.1.0", Workload("timm:resnet18"), {}, (row,)))
        >>> [head.title for head in found.heads]
        ['trainable', 'trainable_fraction', 'parameters.total', 'parameters.trainable']
        >>> found.lines[0].cells[0]
        Cell(text='25.0%', value='0.25')
    """
    shown = cells(result)
    raw = [
        figure
        for figure in FIGURES
        if figure.is_number and any(figure.read(result, r) is not None for r in result.rows)
    ]
    heads = [
        *(Head(column.title, column.value is not None) for column in shown.columns),
        *(Head(figure.name, is_number=True, is_raw=True) for figure in raw),
    ]
    lines = []
    for row, texts in zip(numbered(result.rows), shown.rows, strict=True):
        values = [
            column.value(result, row.row) if column.value else None for column in shown.columns
        ]
        figures = [figure.read(result, row.row) for figure in raw]
        lines.append(
            Line(
                row.number,
                row.name,
                row.row.status,
                (
                    *(Cell(t, _number(value)) for t, value in zip(texts, values, strict=True)),
                    *(Cell(_rounded(value), _number(value)) for value in figures),
                ),
            )
        )
    return Sortable(tuple(heads), tuple(lines))


def _number(value: object) -> str:
    return repr(value) if isinstance(value, (int, float)) else ""


def _rounded(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, (int, float)) else MISSING
