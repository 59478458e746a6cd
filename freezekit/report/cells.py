"""The columns of a result, as text: the terminal table and Markdown print the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from freezekit.report import formatting
from freezekit.results.derived import mixed_peaks
from freezekit.results.figures import FIGURES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from freezekit.results.figures import Figure
    from freezekit.results.records import Result, Row

FAILED = {"oom": "out of memory", "error": "error"}


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        title: In full, with the unit.
        head: The same in two short lines, for a terminal.
        text: The cell of a row, from what the row is made of.
        is_number: Whether to align it to the right.
        value: What to sort the cell by; None to sort by its text.
        is_kept: Whether it is shown though no row has something to say.
    """

    title: str
    head: tuple[str, str]
    text: Callable[..., str]
    is_number: bool = True
    value: Callable[[Result, Row], float | None] | None = None
    is_kept: bool = False


@dataclass(frozen=True)
class Cells:
    """Columns that say something in this result, and their text row by row."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]


def cells(result: Result, rows: Sequence[Row] | None = None) -> Cells:
    """Return the columns in which at least one row has something to say.

    Args:
        result: One model's result.
        rows: Those of its rows that are shown; None for all.

    Example:
        >>> from freezekit.results.records import Parameters, Result, Row, Workload
        >>> row = Row("head-only", parameters=Parameters(200, 50, "a1"))
        >>> found = cells(Result("0.1.0", Workload("timm:resnet18"), env={}, rows=(row,)))
        >>> [column.title for column in found.columns], found.rows
        (['trainable'], (('25.0%',),))
    """
    shown = result.rows if rows is None else rows
    return tabulate(COLUMNS, [(result, row) for row in shown])


def tabulate(columns: Sequence[Column], rows: Sequence[tuple[Any, ...]]) -> Cells:
    """Return the columns in which at least one row has something to say.

    Any: whatever the columns' `text` takes.
    """
    said = [(column, [column.text(*row) for row in rows]) for column in columns]
    nothing = {formatting.MISSING, ""}
    said = [(column, texts) for column, texts in said if column.is_kept or set(texts) - nothing]
    by_row = zip(*(texts for _, texts in said), strict=True) if said else [()] * len(rows)
    return Cells(tuple(column for column, _ in said), tuple(tuple(texts) for texts in by_row))


def title(result: Result) -> str:
    """Return what was run, in one line.

    Example:
        >>> from freezekit.results.records import Result, Workload
        >>> workload = Workload("timm:resnet18", input_shape=(8, 3, 128, 128))
        >>> title(Result("0.1.0", workload, env={"torch": "2.15.0", "threads": 2}))
        'timm:resnet18, 8x3x128x128, float32, sgd, cpu, 2 threads, torch 2.15.0'
    """
    return formatting.plain(", ".join([result.workload.model, *circumstances(result)])).replace(
        "\n", " "
    )


def circumstances(result: Result) -> list[str]:
    """Return how the model was run, fact by fact.

    Example:
        >>> from freezekit.results.records import Result, Workload
        >>> circumstances(Result("0.1.0", Workload("timm:resnet18", amp="bfloat16"), env={}))
        ['batch 8', 'float32', 'amp bfloat16', 'sgd', 'cpu']
    """
    work, env = result.workload, result.env
    shape = "x".join(map(str, work.input_shape)) if work.input_shape else f"batch {work.batch_size}"
    device = work.device
    name = env.get("device")
    if isinstance(name, str) and name != device:
        device = f"{device} ({name})"
    parts = [
        "pretrained" if work.pretrained else None,
        f"{work.num_classes} classes" if work.num_classes is not None else None,
        shape,
        "channels last" if work.channels_last else None,
        work.dtype,
        f"amp {work.amp}" if work.amp else None,
        work.optimizer,
        device,
        _threads(env.get("threads")) if work.device == "cpu" else None,
        f"torch {str(env['torch']).partition('+')[0]}" if env.get("torch") else None,
    ]
    return [part for part in parts if part]


def _threads(count: object) -> str | None:
    return f"{count} thread{'' if count == 1 else 's'}" if count else None


def verdict(row: Row) -> str:
    """Return what may be claimed of a row's time, or how the row failed."""
    if row.status != "ok":
        return FAILED[row.status]
    return (row.time.verdict if row.time else None) or ""


def _peak(result: Result, row: Row, _: Figure) -> str:
    """Return the peak, with a mark where it was predicted and others were measured."""
    text = formatting.mib(row.memory.peak_bytes)
    return f"~{text}" if row.memory.peak_method == "predicted" and mixed_peaks(result) else text


def _ratio(_: Result, row: Row, figure: Figure) -> str:
    time = row.time
    if time is None:
        return formatting.MISSING
    value = getattr(time, figure.name.removeprefix("time."))
    return formatting.ratio(value, figure.interval and figure.interval(row), time.verdict)


_OWN_TEXT: dict[str, Callable[[Result, Row, Figure], str]] = {
    "peak_bytes": _peak,
    "time.ratio": _ratio,
    "verdict": lambda _, row, __: verdict(row),
}
"""Figures whose cells tell more than their value."""


def _column(figure: Figure) -> Column:
    assert figure.heading is not None
    own = _OWN_TEXT.get(figure.name)

    def text(result: Result, row: Row) -> str:
        if own:
            return own(result, row, figure)
        return formatting.figure(figure.read(result, row), figure.unit)

    def value(result: Result, row: Row) -> float | None:
        found = figure.read(result, row)
        return None if isinstance(found, str) else found

    title, label = figure.heading.title, formatting.LABELS.get(figure.unit)
    first, _, second = figure.heading.short.partition("\n")
    return Column(
        f"{title}, {label}" if label else title,
        (first, second or label or ""),
        text,
        # An interval takes more room than a number, and lines up at the left.
        is_number=figure.is_number and figure.unit != "ratio",
        value=value if figure.is_number else None,
    )


COLUMNS = tuple(_column(figure) for figure in FIGURES if figure.heading)
