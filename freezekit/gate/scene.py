"""The value of a gate for one row: true, false, or open if intervals allow both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezekit.gate.dimensions import unit_of
from freezekit.gate.spans import LackingError, Span, Value, combine, compare
from freezekit.gate.tree import Constant, Figure, Node, Operation, walk
from freezekit.gate.values import UNITS, shown, value_of
from freezekit.results.derived import baseline, stock_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from freezekit.gate.tree import Unit
    from freezekit.results.records import Result, Row


@dataclass(frozen=True)
class Scene:
    """A row and those that it is compared with; they give a gate's figures their values.

    Attributes:
        result: The result that the row is of.
        row: The judged row.
        earlier: By label, rows of an earlier run, with their result.
    """

    result: Result
    row: Row
    earlier: Mapping[str, tuple[Result, Row]]

    def truth(self, node: Node) -> bool | None:
        """Return whether a condition holds, None if intervals leave it open."""
        match node:
            case Figure():
                return bool(self.value(node))
            case Operation("not", (condition,)):
                answer = self.truth(condition)
                return None if answer is None else not answer
            case Operation("and" | "or" as word, conditions):
                decisive = word == "or"  # one condition that decides is enough
                answers = []
                for condition in conditions:
                    answers.append(self.truth(condition))
                    if answers[-1] is decisive:
                        return decisive
                return None if None in answers else not decisive
            case Operation(sign, (left, right)):
                return compare(sign, self.value(left), self.value(right))
        raise AssertionError(node)

    def value(self, node: Node) -> Value:
        """Return the value of one side of a comparison."""
        match node:
            case Constant(value):
                return value if isinstance(value, str) else Span(value, value)
            case Figure():
                return self._figure(node)
            case Operation("-", (negated,)):
                return combine("*", Span(-1.0, -1.0), self.value(negated))
            case Operation(sign, (left, right)):
                return combine(sign, self.value(left), self.value(right))
        raise AssertionError(node)

    def reasons(self, node: Node) -> Iterator[str]:
        """Yield each comparison with its figures, or which figure it lacks."""
        match node:
            case Operation("and" | "or" | "not", conditions):
                for condition in conditions:
                    yield from self.reasons(condition)
            case _:
                try:
                    yield self._reason(node)
                except LackingError as lacking:  # another condition has decided
                    yield str(lacking)

    def _reason(self, node: Node) -> str:
        match node:
            case Operation(sign, (left, right)):
                named = (UNITS[part.name] for part in walk(node) if isinstance(part, Figure))
                said = unit_of(left, UNITS) or unit_of(right, UNITS)
                unit: Unit = said or next(named, None) or "count"
                return f"{shown(self.value(left), unit)} {sign} {shown(self.value(right), unit)}"
            case Figure(name):
                return f"{name} is {shown(self.value(node), UNITS[name])}"
        raise AssertionError(node)

    def _figure(self, node: Figure) -> Value:
        result, row = self._place(node)
        found = value_of(node.name, result, row)
        if found is None:
            raise LackingError(f"{node.of or 'the row'} has no {node.name}")
        if isinstance(found, Span) and not found.is_number:
            raise LackingError(f"{node.name} of {node.of or 'the row'} is not a number")
        if node.name == "peak_bytes" and row.memory.peak_method != self.row.memory.peak_method:
            raise LackingError(
                f"the peak of the row is {self.row.memory.peak_method}, the peak of {node.of} is "
                f"{row.memory.peak_method}: they cannot be compared"
            )
        return found

    def _place(self, node: Figure) -> tuple[Result, Row]:
        if node.of == "baseline":
            if self.row.label not in self.earlier:
                raise LackingError("the baseline has no row of this name")
            return self.earlier[self.row.label]
        rows = {None: self.row, "full": baseline(self.result)}
        row = rows[node.of] if node.of in rows else stock_of(self.result, self.row)
        if row is None:
            raise LackingError(f"the result has no {node.of} row to compare it with")
        return self.result, row
