"""The language of gates: text to a small tree; nothing in it can do more than compare figures.

    gate       = and {"or" and}
    and        = not {"and" not}
    not        = "not" not | comparison
    comparison = sum [("<" | "<=" | ">" | ">=" | "==" | "!=") sum]
    sum        = term {("+" | "-") term}
    term       = factor {("*" | "/") factor}
    factor     = "-" factor | number [unit] | 'text' | name | "(" gate ")"

A name is a figure of the row that is judged (`peak_bytes`), or of the row that it is measured
against: `full.peak_bytes`, `stock.peak_bytes`, `baseline.peak_bytes`. Alone, `full`, `stock` and
`baseline` stand for the one figure that the comparison names.
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, NoReturn

from freezekit.errors import suggest
from freezekit.gate.dimensions import check_units
from freezekit.gate.tokens import UNIT_COUNTS, UNITS, Token, fail_at, split
from freezekit.gate.tree import (
    REFERENCES,
    Arithmetic,
    Comparison,
    Constant,
    Counterpart,
    Figure,
    Kind,
    Logic,
    Negation,
    Node,
    Reference,
    Unit,
    counterparts,
    figures,
    filled,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_DEPTH = 50  # of brackets: deeper than any gate that a person writes
_SIGNS = ("<", "<=", ">", ">=", "==", "!=")


def parse(text: str, units: Mapping[str, Unit]) -> Node:
    """Return the tree of a gate.

    Args:
        text: The gate.
        units: What each figure counts, by its name.

    Raises:
        GateError: The text is no condition, or names an unknown figure; the message shows where.

    Example:
        >>> parse("peak_bytes > full * 0.5", {"peak_bytes": "bytes"})
        Comparison(sign='>', left=Figure(name='peak_bytes', of=None, start=0),
            right=Arithmetic(sign='*', left=Figure(name='peak_bytes', of='full', start=13),
            right=Constant(value=0.5, unit=None, start=20)))
        >>> parse("peek_bytes > 1", {"peak_bytes": "bytes"})
        Traceback (most recent call last):
        ...
        freezekit.errors.GateError: unknown figure 'peek_bytes', did you mean 'peak_bytes'?
          peek_bytes > 1
          ^^^^^^^^^^
    """
    return _Parser(text, units).gate()


class _Parser:
    """Reads from left to right; each method takes one rule of the grammar."""

    def __init__(self, text: str, units: Mapping[str, Unit]) -> None:
        self._text = text
        self._units = units
        self._tokens = split(text)
        self._at = 0
        self._depth = 0

    def gate(self) -> Node:
        if self._now.kind == "end":
            self._fail("a gate is empty; expected a condition such as 'peak_bytes > full * 0.6'")
        node = self._truth(self._or())
        if self._now.kind != "end":
            self._fail(f"unexpected {self._now.text!r}; expected 'and', 'or' or the end")
        return node

    def _or(self) -> Node:
        node = self._and()
        while self._take("or"):
            node = Logic("or", self._truth(node), self._truth(self._and()))
        return node

    def _and(self) -> Node:
        node = self._not()
        while self._take("and"):
            node = Logic("and", self._truth(node), self._truth(self._not()))
        return node

    def _not(self) -> Node:
        if self._now.text == "not" and self._now.kind == "name":
            self._deeper()
            self._at += 1
            node = Negation(self._truth(self._not()))
            self._depth -= 1
            return node
        return self._comparison()

    def _comparison(self) -> Node:
        left = self._sum()
        sign = self._take(*_SIGNS)
        if not sign:
            return left
        right = self._sum()
        if self._now.text in _SIGNS:
            self._fail("comparisons do not chain; join two with 'and'")
        compared = self._compared(left, right)
        kinds = {self._kind(compared[0]), self._kind(compared[1])}
        if len(kinds) != 1 or "truth" in kinds:
            self._fail(f"{sign.text!r} compares two numbers or two texts", sign)
        if kinds == {"text"} and sign.text not in ("==", "!="):
            self._fail(f"texts are compared with '==' and '!=', not with {sign.text!r}", sign)
        found = Comparison(sign.text, *compared)
        check_units(found, self._units, self._text)
        return found

    def _sum(self) -> Node:
        node = self._term()
        while sign := self._take("+", "-"):
            node = self._arithmetic(sign, node, self._term())
        return node

    def _term(self) -> Node:
        node = self._factor()
        while sign := self._take("*", "/"):
            node = self._arithmetic(sign, node, self._factor())
        return node

    def _factor(self) -> Node:
        token = self._now
        self._at += 1
        if token.text == "-" and token.kind == "sign":
            self._deeper()
            node = self._arithmetic(
                token, Constant(-1.0, None, token.start), self._factor(), sign="*"
            )
            self._depth -= 1
            return node
        if token.text == "(":
            self._deeper()
            node = self._or()
            self._depth -= 1
            if not self._take(")"):
                self._fail("a bracket is open; expected ')'")
            return node
        if token.kind == "number":
            return self._number(token)
        if token.kind == "text":
            return Constant(token.text[1:-1], "text", token.start)
        if token.kind == "name" and token.text not in ("and", "or", "not"):
            return self._name(token)
        found = "end" if token.kind == "end" else repr(token.text)
        return self._fail(f"unexpected {found}; expected a figure, a number or '('", token)

    # --- small pieces ----------------------------------------------------------------------------

    def _number(self, token: Token) -> Constant:
        if token.unit is not None and token.unit not in UNITS:
            choices = ", ".join(UNITS)
            self._fail(f"unknown unit {token.unit!r}; expected one of {choices}", token)
        value = float(token.text) * UNITS.get(token.unit or "", 1.0)
        if not isfinite(value):
            self._fail(f"{token.text}{token.unit or ''} is more than a number can hold", token)
        return Constant(value, UNIT_COUNTS.get(token.unit or ""), token.start)

    def _name(self, token: Token) -> Node:
        if token.text in REFERENCES:
            return Counterpart(_reference(token.text), token.start)
        first, _, rest = token.text.partition(".")
        of, name = (_reference(first), rest) if first in REFERENCES else (None, token.text)
        name = name.removeprefix("memory.")  # where it stands in the result file
        if name not in self._units:
            near = suggest(name, self._units) or f"; expected one of {', '.join(self._units)}"
            self._fail(f"unknown figure {name!r}{near}", token)
        return Figure(name, of, token.start)

    def _compared(self, left: Node, right: Node) -> tuple[Node, Node]:
        """Put the one figure of a comparison in the place of counterparts that are named alone."""
        names = {found.name for side in (left, right) for found in figures(side)}
        alone = [found for side in (left, right) for found in counterparts(side)]
        if not alone:
            return left, right
        if len(names) != 1:
            said = f"{', '.join(sorted(names))} are" if names else "none is"
            self._fail(
                f"{alone[0].of!r} alone takes the one figure of the comparison, and {said} named; "
                f"say which, such as '{alone[0].of}.peak_bytes'",
                Token("name", alone[0].of, alone[0].start),
            )
        name = names.pop()
        return filled(left, name), filled(right, name)

    def _arithmetic(self, token: Token, left: Node, right: Node, sign: str = "") -> Node:
        if not {self._kind(left), self._kind(right)} <= {"number"}:
            self._fail(f"{token.text!r} takes numbers", token)
        return Arithmetic(sign or token.text, left, right)

    def _truth(self, node: Node) -> Node:
        if self._kind(node) != "truth":
            self._fail("expected a condition, such as 'peak_bytes > full * 0.6', not a figure")
        return node

    def _kind(self, node: Node) -> Kind:
        if isinstance(node, Constant):
            return "text" if isinstance(node.value, str) else "number"
        if isinstance(node, Figure):
            unit = self._units[node.name]
            return unit if unit in ("text", "truth") else "number"
        return "number" if isinstance(node, (Arithmetic, Counterpart)) else "truth"

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MOST_DEPTH:
            self._fail(f"more than {MOST_DEPTH} brackets deep")

    @property
    def _now(self) -> Token:
        return self._tokens[min(self._at, len(self._tokens) - 1)]

    def _take(self, *texts: str) -> Token | None:
        token = self._now
        if token.kind not in ("sign", "name") or token.text not in texts:
            return None
        self._at += 1
        return token

    def _fail(self, message: str, token: Token | None = None) -> NoReturn:
        fail_at(self._text, token or self._now, message)


def _reference(text: str) -> Reference:
    return next(known for known in REFERENCES if known == text)
