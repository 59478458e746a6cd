"""The table of a result with what its columns sort by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezekit.report.cells import cells
from freezekit.report.formatting import MISSING
from freezekit.report.html.drawing import numbered
from freezekit.results.figures import peak_change, trainable_fraction

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit.results.records import Result, Row


@dataclass(frozen=True)
class Head:
    """A column: its title, whether it is sorted as numbers, whether it is one of raw fractions."""

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
    """Return the columns of the terminal's table, and those of them that are shares as fractions.

    Example:
        >>> from freezekit.results.records import Parameters, Result, Row, Workload
        >>> row = Row("head-only", parameters=Parameters(200, 50, "a1"))
        >>> found = sortable(Result("0.1.0", Workload("timm:resnet18"), {}, (row,)))
        >>> [head.title for head in found.heads]
        ['trainable', 'trainable fraction']
        >>> found.lines[0].cells
        (Cell(text='25.0%', value='0.25'), Cell(text='0.25', value='0.25'))
    """
    shown = cells(result)
    raw = [(title, figure) for title, figure in RAW if any(_all(result, figure))]
    heads = [
        *(Head(column.title, column.value is not None) for column in shown.columns),
        *(Head(title, is_number=True, is_raw=True) for title, _ in raw),
    ]
    lines = []
    for row, texts in zip(numbered(result.rows), shown.rows, strict=True):
        values = [
            column.value(result, row.row) if column.value else None for column in shown.columns
        ]
        figures = [figure(result, row.row) for _, figure in raw]
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


def _all(result: Result, figure: Callable[[Result, Row], float | None]) -> list[bool]:
    return [figure(result, row) is not None for row in result.rows]


def _number(value: float | None) -> str:
    return "" if value is None else repr(value)


def _rounded(value: float | None) -> str:
    return MISSING if value is None else f"{value:.6g}"


def _ratio(_result: Result, row: Row) -> float | None:
    return row.time.ratio if row.time else None


def _end(index: int) -> Callable[[Result, Row], float | None]:
    def end(_result: Result, row: Row) -> float | None:
        return row.time.ratio_ci[index] if row.time and row.time.ratio_ci else None

    return end


def _to_stock(_result: Result, row: Row) -> float | None:
    return row.time.ratio_to_stock if row.time else None


RAW: tuple[tuple[str, Callable[[Result, Row], float | None]], ...] = (
    ("trainable fraction", lambda _, row: trainable_fraction(row)),
    ("peak change, fraction", peak_change),
    ("ratio", _ratio),
    ("ratio, low", _end(0)),
    ("ratio, high", _end(1)),
    ("ratio to stock", _to_stock),
)
