"""The figures of a row of a sweep, and its differences to those that it is compared with.

A difference of two candidates is known better than the accuracy of either: they are trained with
the same seeds, and validated on the same images. So a comparison that is a sum, such as
`accuracy < full - 0.01`, is judged by the paired interval of the difference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezekit.gate.evaluation import Evaluation, Sides
from freezekit.gate.linear import added, as_sum
from freezekit.gate.spans import LackingError, Span, Value, combine
from freezekit.gate.tree import Figure, Operation, walk
from freezekit.sweep.comparing import difference
from freezekit.sweep.figures import FIGURES, baseline_of
from freezekit.sweep.intervals import ratio_over_seeds
from freezekit.sweep.records import Estimate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from freezekit.gate.linear import Sum
    from freezekit.gate.tree import Node, Unit
    from freezekit.sweep.records import Sweep, SweepRow

SWEEP_UNITS: dict[str, Unit] = {
    f.name: "ratio" if f.unit == "share" or f.unit == "change" else f.unit  # mypy
    for f in FIGURES
}
"""What each figure that a gate on a sweep can name counts."""

VALIDATED = ("metric", "accuracy", "balanced_accuracy", "loss")
"""Figures on the validation images, which are paired by seed and, if they can be, by image."""

_FIGURES = {figure.name: figure for figure in FIGURES}


@dataclass(frozen=True)
class SweepScene(Evaluation):
    """A row and those that it is compared with.

    Attributes:
        sweep: The sweep that the row is of.
        row: The judged row.
        earlier: An earlier sweep; None without one.
    """

    sweep: Sweep
    row: SweepRow
    earlier: Sweep | None = None

    @property
    def units(self) -> Mapping[str, Unit]:
        """What each figure counts, by its name."""
        return SWEEP_UNITS

    def figure(self, node: Figure) -> Value:
        """Return the value of a figure; one that has no interval for want of seeds is open."""
        sweep, row = self._place(node)
        found = _FIGURES[node.name].read(sweep, row)
        if found is None:
            raise LackingError(f"{node.of or 'the row'} has no {node.name}")
        if isinstance(found, Estimate):
            return _span(found)
        return (
            Span(found, found)
            if isinstance(found, (int, float)) and not isinstance(found, bool)
            else found
        )

    def sides(self, left: Node, right: Node) -> Sides:
        """Return both sides; of a sum with one other row's figure, the paired difference."""
        whole = added(as_sum(left), as_sum(right), -1.0)
        paired = self._paired(whole) if whole is not None else None
        return paired or super().sides(left, right)

    def _reason(self, node: Node) -> str:
        """Say that a figure has no interval, in place of limits that are infinite."""
        if isinstance(node, Operation) and len(node.parts) == 2:
            sides = self.sides(*node.parts)
            both = (sides.left, sides.right)
            if any(isinstance(one, Span) and one.low == -math.inf for one in both):
                figures = dict.fromkeys(n.name for n in walk(node) if isinstance(n, Figure))
                agree = len(self.sweep.settings.seeds) > 1
                why = ", as seeds that agree give no interval" if agree else ""
                return f"{' and '.join(figures)} may have any value{why}"
        return super()._reason(node)

    def _paired(self, whole: Sum) -> Sides | None:
        figures = [figure for figure in whole if figure is not None]
        own = next((figure for figure in figures if figure.of is None), None)
        other = next((figure for figure in figures if figure.of is not None), None)
        if len(figures) != 2 or own is None or other is None or own.name != other.name:
            return None
        sweep, row = self._place(other)
        factor, rest, limit = whole[own], whole[own] + whole[other], -whole.get(None, 0.0)
        if own.name in VALIDATED and self._same_data(sweep):
            name = self.sweep.settings.metric if own.name == "metric" else own.name
            found = difference(self.row.trials, row.trials, name, self.sweep.data.val_labels)
            if found is None or found.low is None:  # of one seed that both have
                return None
            gained = combine("*", Span(factor, factor), _span(found))
            if abs(rest) > 1e-12:  # such as of full * 0.99
                gained = combine("+", gained, combine("*", Span(rest, rest), self.figure(other)))
            return Sides(gained, Span(limit, limit), f"the paired difference to {other.of}:")
        if own.name == "train_seconds" and not limit and sweep is self.sweep:
            ratio = _seconds_ratio(self.row, row)
            if ratio is None or factor <= 0:
                return None
            most = -whole[other] / factor
            words = f"the paired ratio to {other.of}:"
            return Sides(_span(ratio), Span(most, most), words, "ratio")
        return None

    def _same_data(self, other: Sweep) -> bool:
        """Whether trials of both sweeps can be paired: same images, same figure."""
        return (
            other.data.digest == self.sweep.data.digest
            and other.settings.metric == self.sweep.settings.metric
        )

    def _place(self, node: Figure) -> tuple[Sweep, SweepRow]:
        sweep, row = self._found(node)
        if node.of and row.status != "ok" and node.name != "status":
            raise LackingError(f"{node.of} is not trained to its end: its status is {row.status!r}")
        return sweep, row

    def _found(self, node: Figure) -> tuple[Sweep, SweepRow]:
        if node.of == "baseline":
            rows = {row.label: row for row in self.earlier.rows} if self.earlier else {}
            if self.earlier is None or self.row.label not in rows:
                raise LackingError("the baseline has no row of this name")
            return self.earlier, rows[self.row.label]
        if node.of == "full":
            found = baseline_of(self.sweep, self.row)
        elif node.of == "stock":
            found = _stock_of(self.sweep, self.row)
        else:
            found = self.row
        if found is None:
            raise LackingError(f"the sweep has no {node.of} row to compare it with")
        return self.sweep, found


def _stock_of(sweep: Sweep, row: SweepRow) -> SweepRow | None:
    """Return the row that differs from a lean one in that it is not lean."""
    asked = (row.candidate.model, row.candidate.strategy, row.candidate.schedule)
    for one in sweep.rows:
        other = one.candidate
        is_same = (other.model, other.strategy, other.schedule) == asked
        if is_same and other.image_size == row.candidate.image_size and not other.lean:
            return one
    return None


def _seconds_ratio(row: SweepRow, other: SweepRow) -> Estimate | None:
    """Return the ratio of the seconds of two rows' trainings, paired by seed."""
    seconds = [
        {t.recipe.seed: sum(epoch.train_seconds for epoch in t.epochs) for t in one.trials}
        for one in (row, other)
    ]
    seeds = sorted(seconds[0].keys() & seconds[1].keys())
    if not seeds:
        return None
    return ratio_over_seeds(*([found[seed] for seed in seeds] for found in seconds))


def _span(found: Estimate) -> Span:
    if found.low is None or found.high is None:  # one seed: anything is possible
        return Span(-math.inf, math.inf)
    return Span(found.low, found.high)
