"""What the sides of a comparison count: bytes are not compared with a ratio."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.gate.tokens import Token, fail_at, split
from freezekit.gate.tree import Arithmetic, Comparison, Constant, Figure, Node, Unit

if TYPE_CHECKING:
    from collections.abc import Mapping

_WORDS: dict[Unit | None, str] = {
    "bytes": "bytes",
    "operations": "operations",
    "seconds": "seconds",
    "ratio": "a ratio",
    "count": "a count",
}


def unit_of(node: Node, units: Mapping[str, Unit]) -> Unit | None:
    """Return what a side of a comparison counts, None where that may be anything.

    A plain number may be anything, and so may a product: `parameters.total * 4` may be bytes.

    Args:
        node: The side, its counterparts filled in.
        units: What each figure counts, by its name.

    Example:
        >>> quotient = Arithmetic("/", Figure("flops", None, 0), Figure("flops", "full", 8))
        >>> unit_of(quotient, {"flops": "operations"})
        'ratio'
    """
    match node:
        case Constant(unit=unit):
            return unit
        case Figure(name):
            return units[name]
        case Arithmetic(sign, left, right):
            first, second = unit_of(left, units), unit_of(right, units)
            if sign in ("+", "-"):
                return first or second
            return "ratio" if sign == "/" and first is not None and first == second else None
    return None


def check_units(node: Comparison | Arithmetic, units: Mapping[str, Unit], text: str) -> None:
    """Refuse bytes beside a ratio, and whatever else no arithmetic makes comparable.

    Args:
        node: Its counterparts filled in.
        units: What each figure counts, by its name.
        text: Of the whole gate.

    Raises:
        GateError: The message shows the place.
    """
    sides = (node.left, node.right)
    for side in sides:
        if isinstance(side, Arithmetic):
            check_units(side, units, text)
    if node.sign in ("*", "/"):
        return
    left, right = (unit_of(side, units) for side in sides)
    for side, other in zip(sides, (right, left), strict=True):
        if isinstance(side, Constant) and _is_ratio(side, other):
            token = _token_at(side.start, text)
            said = f"{token.text}{token.unit or ''} is a ratio, compared with {_WORDS[other]}"
            fail_at(text, token, f"{said}; did you mean 'full * {side.value:g}'?")
    if left and right and left != right:
        token = _token_at(_start(node.right), text)
        fail_at(text, token, f"{_WORDS[left]} and {_WORDS[right]} are not compared")


def _is_ratio(constant: Constant, other: Unit | None) -> bool:
    """Tell whether a number is a ratio, and what it stands beside is something else."""
    if other in (None, "ratio", "text") or isinstance(constant.value, str):
        return False
    is_part = constant.unit is None and 0 < constant.value < 1 and other != "seconds"
    return constant.unit == "ratio" or is_part


def _start(node: Node) -> int:
    while isinstance(node, Arithmetic):
        node = node.left
    assert isinstance(node, (Constant, Figure))
    return node.start


def _token_at(start: int, text: str) -> Token:
    return next(token for token in split(text) if token.start == start)
