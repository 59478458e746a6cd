"""The figures that gates can name, and where each stands in a row."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from math import isfinite
from typing import TYPE_CHECKING

from freezekit.gate.spans import Span, Value
from freezekit.report.formatting import milliseconds, number
from freezekit.results.figures import flops, noise_floor, trainable_fraction
from freezekit.results.records import Memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit.gate.tree import Unit
    from freezekit.results.records import Result, Row


@dataclass(frozen=True)
class Named:
    """A figure: what it counts, and how it is read from a row; None where the row lacks it."""

    unit: Unit
    read: Callable[[Result, Row], Value | None]


def shown(value: Value, unit: Unit) -> str:
    """Return a figure as a reader wants it.

    Example:
        >>> shown(Span(2**20, 2**20), "bytes"), shown(Span(0.98, 1.04), "ratio")
        ('1.00 MiB', '[0.980, 1.040]')
        >>> shown(Span(1, 1), "bytes"), shown(Span(600, 600), "operations")
        ('1 byte', '600 FLOP')
        >>> shown(Span(0.5, math.inf), "seconds")
        '[500.0 ms, no limit]'
    """
    if not isinstance(value, Span):
        return str(value).lower() if isinstance(value, bool) else repr(value)
    ends = (value.low,) if value.is_exact else (value.low, value.high)
    texts = [_SHOWN[unit](end) if isfinite(end) else "no limit" for end in ends]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


def _in_unit(text: str, value: float, large: str, small: str) -> str:
    """Return a number in the large unit, in the small one where digits would be lost."""
    if text != "<0.01":
        return f"{text} {large}"
    return f"{value:.10g} {small.removesuffix('s') if value == 1 else small}"


_SHOWN: dict[str, Callable[[float], str]] = {
    "bytes": lambda v: _in_unit(number(v / 2**20), v, "MiB", "bytes"),
    "operations": lambda v: _in_unit(number(v / 1e9), v, "GFLOP", "FLOP"),
    "seconds": lambda v: f"{milliseconds(v)} ms",
    "ratio": lambda v: f"{v:.3f}",
    "count": number,
}


def _exact(read: Callable[[Row], float | None]) -> Callable[[Result, Row], Value | None]:
    def found(_: Result, row: Row) -> Value | None:
        value = read(row)
        return None if value is None else Span(value, value)

    return found


def _memory(name: str) -> Named:
    return Named("bytes", _exact(lambda row: getattr(row.memory, name)))


def _ratio(result: Result, row: Row) -> Value | None:
    """Return all ratios that the run leaves possible: its interval, and never less than the noise.

    Identical code came apart by the noise floor, so that no difference below it is certain.
    """
    time, floor = row.time, noise_floor(result)
    if time is None or time.ratio is None or time.verdict == "baseline":
        return Span(1.0, 1.0) if time and time.verdict == "baseline" else None
    return _widened(time.ratio, time.ratio_ci, floor)


def _ratio_to_stock(result: Result, row: Row) -> Value | None:
    time = row.time
    if time is None or time.ratio_to_stock is None:
        return None
    return _widened(time.ratio_to_stock, time.ratio_to_stock_ci, noise_floor(result))


def _widened(ratio: float, ci: tuple[float, float] | None, floor: float | None) -> Span:
    if ci is None or floor is None:  # nothing is known of the noise
        return Span(0.0, math.inf)
    return Span(min(ci[0], ratio / (1 + floor)), max(ci[1], ratio * (1 + floor)))


def _end(read: Callable[[Row], tuple[float, float] | None], index: int) -> Named:
    def found(row: Row) -> float | None:
        ends = read(row)
        return None if ends is None else ends[index]

    return Named("ratio", _exact(found))


def _seconds(name: str) -> Named:
    return Named(
        "seconds", _exact(lambda row: getattr(row.time.step_seconds, name) if row.time else None)
    )


def _in_full(row: Row) -> tuple[float, float] | None:
    return row.time.ratio_ci if row.time else None


def _in_stock(row: Row) -> tuple[float, float] | None:
    return row.time.ratio_to_stock_ci if row.time else None


FIGURES: dict[str, Named] = {
    **{f.name: _memory(f.name) for f in fields(Memory) if f.name.endswith("_bytes")},
    "parameters.total": Named(
        "count", _exact(lambda row: row.parameters.total if row.parameters else None)
    ),
    "parameters.trainable": Named(
        "count", _exact(lambda row: row.parameters.trainable if row.parameters else None)
    ),
    "trainable_fraction": Named("ratio", _exact(trainable_fraction)),
    "flops": Named("operations", _exact(flops)),
    "flops.forward": Named(
        "operations", _exact(lambda row: row.flops.forward if row.flops else None)
    ),
    "flops.backward": Named(
        "operations", _exact(lambda row: row.flops.backward if row.flops else None)
    ),
    "time.ratio": Named("ratio", _ratio),
    "time.ratio_ci.low": _end(_in_full, 0),
    "time.ratio_ci.high": _end(_in_full, 1),
    "time.ratio_to_stock": Named("ratio", _ratio_to_stock),
    "time.ratio_to_stock_ci.low": _end(_in_stock, 0),
    "time.ratio_to_stock_ci.high": _end(_in_stock, 1),
    "time.step_seconds.median": _seconds("median"),
    "time.step_seconds.p10": _seconds("p10"),
    "time.step_seconds.p90": _seconds("p90"),
    "strategy": Named("text", lambda _, row: row.strategy),
    "lean": Named("truth", lambda _, row: row.lean),
}

UNITS: dict[str, Unit] = {name: figure.unit for name, figure in FIGURES.items()}
