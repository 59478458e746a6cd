"""What the parts of a gate count: bytes are not compared with a ratio."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.gate.tree import ARITHMETIC, Constant, Figure, Node, Operation, Unit
from freezekit.results import sizes

if TYPE_CHECKING:
    from collections.abc import Mapping

SCALES: dict[str, tuple[float, Unit | None]] = {
    "": (1.0, None),
    **{name: (count, "bytes") for name, count in sizes.UNITS.items()},
    "ms": (1e-3, "seconds"),
    "s": (1.0, "seconds"),
    "%": (1e-2, "ratio"),
}
"""What may follow a number: how much one is, and what it counts."""

WORDS: dict[Unit | None, str] = {
    "bytes": "bytes",
    "operations": "operations",
    "seconds": "seconds",
    "ratio": "a ratio",
    "count": "a count",
}
"""What a number that counts this is called in a message."""


def unit_of(node: Node, units: Mapping[str, Unit]) -> Unit | None:
    """Return what a part of a gate counts, None for a number that may count anything.

    A plain number may count anything, and so may a product: `parameters.total * 4` may be bytes.

    Args:
        node: The part.
        units: What each figure counts, by its name.

    Example:
        >>> quotient = Operation("/", (Figure("flops", None), Figure("flops", "full")))
        >>> unit_of(quotient, {"flops": "operations"})
        'ratio'
    """
    match node:
        case Constant(unit=unit):
            return unit
        case Figure(name):
            return units[name]
        case Operation("-", (part,)):
            return unit_of(part, units)
        case Operation(sign, (left, right)) if sign in ARITHMETIC:
            first, second = unit_of(left, units), unit_of(right, units)
            if sign in ("+", "-"):
                return first or second
            return "ratio" if sign == "/" and first is not None and first == second else None
    return "truth"


def is_misplaced_ratio(node: Node, beside: Unit | None) -> bool:
    """Tell whether a number is a ratio, and the part beside it counts something else.

    A plain number between 0 and 1 is meant as a ratio too, except beside seconds.

    Example:
        >>> [is_misplaced_ratio(Constant(0.6, None), unit) for unit in ("bytes", "ratio")]
        [True, False]
    """
    match node:
        case Operation("-", (part,)):
            return is_misplaced_ratio(part, beside)
        case Constant(float(value), None):
            return beside not in (None, "ratio", "seconds") and 0 < value < 1
        case Constant(float(), "ratio"):
            return beside not in (None, "ratio")
    return False
