"""The value of a gate: true, false, or open if intervals allow both. Who judges gives figures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from freezekit.gate.dimensions import unit_of
from freezekit.gate.spans import LackingError, Span, Value, combine, compare
from freezekit.gate.tree import Constant, Figure, Node, Operation, walk
from freezekit.gate.values import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from freezekit.gate.tree import Unit

Outcome = Literal["passed", "failed", "unclear"]


@dataclass(frozen=True)
class Sides:
    """Both sides of a comparison, as they are compared.

    Attributes:
        left, right: Their values.
        words: What the left one is, where it is not what the gate says, such as "the difference to
            full".
        unit: What they count, where that is not what the gate says.
    """

    left: Value
    right: Value
    words: str = ""
    unit: Unit | None = None


class Evaluation(ABC):
    """Gives conditions their truth, from figures that a subclass knows."""

    @property
    @abstractmethod
    def units(self) -> Mapping[str, Unit]:
        """What each figure counts, by its name."""

    @abstractmethod
    def figure(self, node: Figure) -> Value:
        """Return the value of a figure.

        Raises:
            LackingError: It is not known.
        """

    def sides(self, left: Node, right: Node) -> Sides:
        """Return both sides of a comparison; a subclass may know their difference better."""
        return Sides(self.value(left), self.value(right))

    def outcome(self, condition: Node, open_yet: str) -> tuple[Outcome, str]:
        """Return what a gate says, and why; `open_yet` is what may leave it open."""
        try:
            answer = self.truth(condition)
        except LackingError as lacking:
            return "unclear", str(lacking)
        reason = "; ".join(self.reasons(condition))
        if answer is None:
            return "unclear", f"{reason}: {open_yet}"
        return ("failed" if answer else "passed"), reason

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
                found = self.sides(left, right)
                return compare(sign, found.left, found.right)
        raise AssertionError(node)

    def value(self, node: Node) -> Value:
        """Return the value of one side of a comparison."""
        match node:
            case Constant(value):
                return value if isinstance(value, str) else Span(value, value)
            case Figure():
                return self.figure(node)
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
                named = (self.units[part.name] for part in walk(node) if isinstance(part, Figure))
                found = self.sides(left, right)
                said = found.unit or unit_of(left, self.units) or unit_of(right, self.units)
                unit: Unit = said or next(named, None) or "count"
                words = f"{found.words} " if found.words else ""
                return f"{words}{shown(found.left, unit)} {sign} {shown(found.right, unit)}"
            case Figure(name):
                return f"{name} is {shown(self.value(node), self.units[name])}"
        raise AssertionError(node)
