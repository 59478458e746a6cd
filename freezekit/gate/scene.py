"""The figures of a row of a bench, and of those that it is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezekit.gate.evaluation import Evaluation
from freezekit.gate.spans import LackingError, Span, Value
from freezekit.gate.values import UNITS, value_of
from freezekit.results.derived import baseline, stock_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from freezekit.gate.tree import Figure, Unit
    from freezekit.results.records import Result, Row


@dataclass(frozen=True)
class Scene(Evaluation):
    """A row and those that it is compared with; they give a gate's figures their values.

    Attributes:
        result: The result that the row is of.
        row: The judged row.
        earlier: By label, rows of an earlier run, with their result.
    """

    result: Result
    row: Row
    earlier: Mapping[str, tuple[Result, Row]]

    @property
    def units(self) -> Mapping[str, Unit]:
        """What each figure counts, by its name."""
        return UNITS

    def figure(self, node: Figure) -> Value:
        """Return the value of a figure."""
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
