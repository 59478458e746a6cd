"""The columns of a result, as text: the terminal table and Markdown print the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from freezekit.report import formatting
from freezekit.results.figures import flops, mixed_peaks, peak_change, trainable_fraction

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
    """

    title: str
    head: tuple[str, str]
    text: Callable[..., str]
    is_number: bool = True
    value: Callable[[Result, Row], float | None] | None = None


@dataclass(frozen=True)
class Cells:
    """Columns that say something in this result, and their text row by row."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]


def cells(result: Result) -> Cells:
    """Return the columns in which at least one row has something to say.

    Example:
        >>> from freezekit.results.records import Parameters, Result, Row, Workload
        >>> row = Row("head-only", parameters=Parameters(200, 50, "a1"))
        >>> found = cells(Result("0.1.0", Workload("timm:resnet18"), env={}, rows=(row,)))
        >>> [column.title for column in found.columns], found.rows
        (['trainable'], (('25.0%',),))
    """
    return tabulate(COLUMNS, [(result, row) for row in result.rows])


def tabulate(columns: Sequence[Column], rows: Sequence[tuple[Any, ...]]) -> Cells:
    """Return the columns in which at least one row has something to say.

    Any: whatever the columns' `text` takes.
    """
    said = [(column, [column.text(*row) for row in rows]) for column in columns]
    said = [(column, texts) for column, texts in said if set(texts) - {formatting.MISSING, ""}]
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


def _peak(result: Result, row: Row) -> str:
    text = formatting.mib(row.memory.peak_bytes)
    return f"~{text}" if row.memory.peak_method == "predicted" and mixed_peaks(result) else text


def _ratio(_result: Result, row: Row) -> str:
    time = row.time
    return formatting.ratio(time.ratio, time.ratio_ci, time.verdict) if time else formatting.MISSING


def _seconds(row: Row) -> float | None:
    return row.time.step_seconds.median if row.time else None


COLUMNS = (
    Column(
        "trainable",
        ("train-", "able"),
        lambda _, row: formatting.share(trainable_fraction(row)),
        value=lambda _, row: trainable_fraction(row),
    ),
    Column("peak, MiB", ("peak", "MiB"), _peak, value=lambda _, row: row.memory.peak_bytes),
    Column(
        "against full",
        ("vs", "full"),
        lambda result, row: formatting.change(peak_change(result, row)),
        value=peak_change,
    ),
    Column(
        "saved activations, MiB",
        ("saved", "MiB"),
        lambda _, row: formatting.mib(row.memory.saved_activations_bytes),
        value=lambda _, row: row.memory.saved_activations_bytes,
    ),
    Column(
        "forward + backward, GFLOP",
        ("GFLOP", "fw+bw"),
        lambda _, row: formatting.gflop(flops(row)),
        value=lambda _, row: flops(row),
    ),
    Column(
        "step, ms",
        ("step", "ms"),
        lambda _, row: formatting.milliseconds(_seconds(row)),
        value=lambda _, row: _seconds(row),
    ),
    Column(
        "ratio to full [95% interval]",
        ("ratio to full", "[95% interval]"),
        _ratio,
        False,
        lambda _, row: row.time.ratio if row.time else None,
    ),
    Column("verdict", ("verdict", ""), lambda _, row: verdict(row), False),
)
