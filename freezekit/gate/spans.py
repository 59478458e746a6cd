"""Numbers known up to an interval: arithmetic and comparisons with them."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SIGNS: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


@dataclass(frozen=True)
class Span:
    """A number, or an interval that holds it."""

    low: float
    high: float

    @property
    def is_exact(self) -> bool:
        """Whether it is one number and no interval."""
        return self.low == self.high

    @property
    def is_number(self) -> bool:
        """Whether it holds a number at all: NaN and infinity alone are not numbers."""
        return self.low <= self.high and not (self.is_exact and not isfinite(self.low))


Value = Span | str | bool


class LackingError(Exception):
    """A value cannot be computed; the message says why."""


def combine(sign: str, left: Value, right: Value) -> Value:
    """Return the interval of all possible results of `+ - * /`.

    Raises:
        LackingError: The divisor may be 0, or the result is too large for a number.

    Example:
        >>> combine("*", Span(0.9, 1.1), Span(-2.0, -2.0))
        Span(low=-2.2, high=-1.8)
    """
    assert isinstance(left, Span)
    assert isinstance(right, Span)
    if sign == "/":
        if right.low <= 0.0 <= right.high:
            raise LackingError("it divides by a number that may be 0")
        return combine("*", left, Span(_end("/", 1.0, right.high), _end("/", 1.0, right.low)))
    ends = [_end(sign, a, b) for a in (left.low, left.high) for b in (right.low, right.high)]
    known = [end for end in ends if end == end]  # 0 times an endless interval is 0
    return Span(min(known, default=0.0), max(known, default=0.0))


def _end(sign: str, a: float, b: float) -> float:
    end = _SIGNS[sign](a, b)
    if isfinite(a) and isfinite(b) and not isfinite(end):
        raise LackingError(f"{a:g} {sign} {b:g} is too large for a number")
    return end


def compare(sign: str, left: Value, right: Value) -> bool | None:
    """Return whether a comparison holds, None if the spans leave it open.

    Example:
        >>> wide = Span(0.9, 1.1)
        >>> [compare(">", wide, Span(x, x)) for x in (0.8, 1.0, 1.2)]
        [True, None, False]
    """
    if not isinstance(left, Span) or not isinstance(right, Span):
        return (left == right) is (sign == "==")
    if sign in ("==", "!="):
        if left.is_exact and right.is_exact:
            return (left == right) is (sign == "==")
        return None if left.low <= right.high and right.low <= left.high else sign == "!="
    if sign in (">", ">="):
        return compare(_TURNED[sign], right, left)
    if sign == "<":
        return True if left.high < right.low else False if left.low >= right.high else None
    return True if left.high <= right.low else False if left.low > right.high else None
