"""What a gate's figure comes to for a row: a number, or all that an interval leaves possible."""

from __future__ import annotations

import math
from math import isfinite
from typing import TYPE_CHECKING

from freezekit.gate.spans import Span, Value
from freezekit.report.formatting import milliseconds, number
from freezekit.results.derived import noise_floor
from freezekit.results.figures import FIGURES
from freezekit.results.variant import BASELINE

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit.gate.tree import Unit
    from freezekit.results.records import Result, Row

_FIGURES = {figure.name: figure for figure in FIGURES}

UNITS: dict[str, Unit] = {
    f.name: "ratio" if f.unit == "share" or f.unit == "change" else f.unit  # mypy
    for f in FIGURES
}
"""What each figure that a gate can name counts."""


def value_of(name: str, result: Result, row: Row) -> Value | None:
    """Return what a figure of a row may be; None where the row lacks it.

    A ratio of times is known up to its interval, and never better than the noise: two copies of
    `full` differed by the noise floor, so that no smaller difference is certain.
    """
    figure = _FIGURES[name]
    found = figure.read(result, row)
    if found is None or isinstance(found, (str, bool)):
        return found
    if figure.interval is None or figure.unit != "ratio" or row.variant == BASELINE:
        return Span(found, found)
    ends, floor = figure.interval(row), noise_floor(result)
    if ends is None or floor is None:  # nothing is known of the noise
        return Span(0.0, math.inf)
    return Span(min(ends[0], found / (1 + floor)), max(ends[1], found * (1 + floor)))


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
