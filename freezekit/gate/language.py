"""The language of gates: a text becomes a small tree, and nothing in it is evaluated.

    gate       = and {"or" and}
    and        = not {"and" not}
    not        = "not" not | comparison
    comparison = sum [("<" | "<=" | ">" | ">=" | "==" | "!=") sum]
    sum        = term {("+" | "-") term}
    term       = factor {("*" | "/") factor}
    factor     = "-" factor | number [unit] | 'text' | name | "(" gate ")"

A name is a figure of the judged row (`peak_bytes`), or of a row that it is compared with:
`full.peak_bytes`, `stock.peak_bytes`, `baseline.peak_bytes`. Alone, `full`, `stock` and `baseline`
stand for the one figure that the comparison names.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, NoReturn

from freezekit.errors import suggest
from freezekit.gate.dimensions import SCALES, WORDS, is_misplaced_ratio, unit_of
from freezekit.gate.pieces import fail_at, shortened, split
from freezekit.gate.shape import check_depth, first_misplaced, place_of, tree_of
from freezekit.gate.tree import ARITHMETIC, LOGIC, REFERENCES, Constant, Figure, Node, Operation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from freezekit.gate.pieces import Piece
    from freezekit.gate.tree import Unit

_NUMBER = re.compile(r"((?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)([A-Za-z]*|%)")
_JOINED = {"+": "added to", "-": "subtracted from"}
_OPERAND = "a figure, a number or '('"
_OPERATOR = "an operator such as '>' or 'and', or the end"


def parse(text: str, units: Mapping[str, Unit]) -> Node:
    """Return the tree of a gate.

    Args:
        text: The gate.
        units: What each figure counts, by its name.

    Raises:
        GateError: The text is no condition, or names an unknown figure; the message shows where.

    Example:
        >>> parse("peak_bytes > full * 0.5", {"peak_bytes": "bytes"})
        Operation(sign='>', parts=(Figure(name='peak_bytes', of=None),
            Operation(sign='*', parts=(Figure(name='peak_bytes', of='full'),
            Constant(value=0.5, unit=None)))))
        >>> parse("peek_bytes > 1", {"peak_bytes": "bytes"})
        Traceback (most recent call last):
        ...
        freezekit.errors.GateError: unknown figure 'peek_bytes', did you mean 'peak_bytes'?
          peek_bytes > 1
          ^^^^^^^^^^
    """
    reader = _Reader(text, split(text), units)
    if not reader.pieces:
        fail_at(text, 0, 0, "a gate is empty; write a condition such as 'peak_bytes > full * 0.6'")
    check_depth(text, reader.pieces)
    tree = tree_of(reader.pieces)
    return reader.condition(tree) if tree else reader.refuse_order()


@dataclass(frozen=True)
class _Reader:
    """Gives Python's tree its meaning; an error marks the pieces that it is about."""

    text: str
    pieces: Sequence[Piece]
    units: Mapping[str, Unit]

    def condition(self, part: ast.expr) -> Node:
        node = self._node(part)
        if unit_of(node, self.units) != "truth":
            message = "expected a condition, such as 'peak_bytes > full * 0.6'"
            self._fail(message, *self._within(part))
        return node

    def refuse_order(self) -> NoReturn:
        """Fail at the first piece out of place, or at an unknown figure before it."""
        index = first_misplaced(self.pieces)
        before, rest = self.pieces[:index], self.pieces[index:]
        self._figures(before)
        follows = before and (before[-1]["operand"] or before[-1][0] == ")")
        if rest:
            expected = _OPERATOR if follows else _OPERAND
            self._fail(f"unexpected {rest[0][0]!r}; expected {expected}", rest[0])
        end = before[-1].end()
        expected = "')', because a bracket is open" if follows else _OPERAND
        fail_at(self.text, end, end, f"unexpected end; expected {expected}")

    def _node(self, part: ast.expr, compared: Sequence[str] = ()) -> Node:
        """Return what a node means; `compared` are the figures that its comparison names."""
        within = self._within(part)
        if isinstance(part, ast.Name):
            return self._operand(within[0], compared)
        children = [child for child in ast.iter_child_nodes(part) if isinstance(child, ast.expr)]
        sign = within[0] if len(children) == 1 else self._sign_after(children[0])
        if sign[0] in LOGIC:
            return Operation(sign[0], tuple(self.condition(child) for child in children))
        if isinstance(part, ast.Compare):
            compared = self._figures(within)
        node = Operation(sign[0], tuple(self._node(child, compared) for child in children))
        self._check_kinds(sign, node, children)
        if len(children) == 2 and sign[0] not in ("*", "/"):
            self._check_units(node, children)
        return node

    # --- checks ----------------------------------------------------------------------------------

    def _check_kinds(self, sign: Piece, node: Operation, children: Sequence[ast.expr]) -> None:
        """Refuse texts and conditions where the sign does not take them."""
        units = {unit_of(part, self.units) for part in node.parts}
        kinds = {unit if unit in ("text", "truth") else "number" for unit in units}
        if sign[0] in ARITHMETIC:
            if kinds != {"number"}:
                self._fail(f"{sign[0]!r} takes numbers", sign)
        elif len(children) > 2:
            second = self._sign_after(children[1])
            self._fail("comparisons do not chain; join two with 'and'", second)
        elif kinds not in ({"number"}, {"text"}):
            self._fail(f"{sign[0]!r} compares two numbers or two texts", sign)
        elif kinds == {"text"} and sign[0] not in ("==", "!="):
            self._fail(f"texts are compared with '==' and '!=', not with {sign[0]!r}", sign)

    def _check_units(self, node: Operation, children: Sequence[ast.expr]) -> None:
        """Refuse bytes beside a ratio, and whatever else no arithmetic makes comparable."""
        left, right = (unit_of(part, self.units) for part in node.parts)
        done = _JOINED.get(node.sign, "compared with")
        for child, part, other in zip(children, node.parts, (right, left), strict=True):
            if is_misplaced_ratio(part, other):
                number = next(piece for piece in self._within(child) if piece["operand"])
                meant = f"full * {self._number(number).value:g}"
                message = f"{number[0]} is a ratio, and cannot be {done} {WORDS[other]}"
                self._fail(f"{message}; did you mean {meant!r}?", number)
        if left and right and left != right:
            message = f"{WORDS[right]} cannot be {done} {WORDS[left]}"
            self._fail(message, *self._within(children[1]))

    # --- operands --------------------------------------------------------------------------------

    def _operand(self, piece: Piece, compared: Sequence[str] = ()) -> Constant | Figure:
        written = piece[0]
        if written[0] in "'\"":
            return Constant(written[1:-1], "text")
        if written[0] == "." or written[0].isdecimal():
            return self._number(piece)
        if written not in REFERENCES:
            return self._figure(piece)
        if len(compared) != 1:
            named = f"{', '.join(compared)} are" if compared else "none is"
            self._fail(
                f"{written!r} alone takes the one figure of the comparison, and {named} named; "
                f"say which, such as '{written}.peak_bytes'",
                piece,
            )
        return Figure(compared[0], written)

    def _number(self, piece: Piece) -> Constant:
        found = _NUMBER.fullmatch(piece[0])
        if not found:
            said = f"{shortened(piece[0])!r} is not a number"
            self._fail(f"{said}; write one such as 1.05, 60%, 2GiB or 250ms", piece)
        digits, unit = found.groups()
        if unit not in SCALES:
            choices = ", ".join(filter(None, SCALES))
            self._fail(f"unknown unit {shortened(unit)!r}; expected one of {choices}", piece)
        scale, counted = SCALES[unit]
        value = float(digits) * scale
        if not isfinite(value):
            self._fail(f"{shortened(piece[0])} is too large for a number", piece)
        return Constant(value, counted)

    def _figure(self, piece: Piece) -> Figure:
        first, _, rest = piece[0].partition(".")
        of, name = (first, rest) if first in REFERENCES else (None, piece[0])
        name = name.removeprefix("memory.")  # where it stands in the result file
        if name not in self.units:
            near = suggest(name, (*self.units, *REFERENCES)) or (
                f"; expected one of {', '.join(self.units)}; "
                f"for the figure of another row, {', '.join(REFERENCES)}"
            )
            self._fail(f"unknown figure {shortened(name)!r}{near}", piece)
        return Figure(name, of)

    def _figures(self, pieces: Sequence[Piece]) -> list[str]:
        """Return the names of all figures, each once; `full` alone names none."""
        operands = (p for p in pieces if p["operand"] and p[0] not in REFERENCES)
        nodes = (self._operand(piece) for piece in operands)
        return sorted({node.name for node in nodes if isinstance(node, Figure)})

    # --- places ----------------------------------------------------------------------------------

    def _within(self, part: ast.expr) -> Sequence[Piece]:
        return self.pieces[place_of(part)]

    def _sign_after(self, part: ast.expr) -> Piece:
        return next(p for p in self.pieces[place_of(part).stop :] if p[0] != ")")

    def _fail(self, message: str, *pieces: Piece) -> NoReturn:
        fail_at(self.text, pieces[0].start(), pieces[-1].end(), message)
