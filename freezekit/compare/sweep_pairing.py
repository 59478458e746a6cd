"""What two sweeps have in common, and how much each candidate changed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace

from freezekit.errors import CompareError
from freezekit.sweep.comparing import difference
from freezekit.sweep.records import Estimate

if TYPE_CHECKING:
    from freezekit.sweep.records import Candidate, Sweep, SweepRow


@dataclass(frozen=True)
class SweepPair:
    """Two sweeps, and the candidates that both have.

    Attributes:
        old, new: The sweeps.
        rows: Old and new row of each, in the order of the new sweep.
        only_old, only_new: Labels of the others.
    """

    old: Sweep
    new: Sweep
    rows: tuple[tuple[SweepRow, SweepRow], ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]

    @property
    def are_same_images(self) -> bool:
        """Whether trials of both can be paired by image."""
        return self.old.data.digest == self.new.data.digest

    @property
    def common_seeds(self) -> int:
        """The number of seeds that both have."""
        return len(set(self.old.settings.seeds) & set(self.new.settings.seeds))

    def difference(self, old: SweepRow, new: SweepRow) -> Estimate | None:
        """Return the new figure less the old one: paired if possible, else of two samples."""
        if new.metric is None or old.metric is None or not _are_done(old, new):
            return None
        if self.are_same_images and self.common_seeds > 1:
            data, metric = self.new.data, self.new.settings.metric
            return difference(new.trials, old.trials, metric, data.val_labels)
        return unpaired(new.metric, old.metric)


def unpaired(new: Estimate, old: Estimate) -> Estimate:
    """Return the difference of two figures of other images or seeds, from their own intervals.

    The interval is MOVER's (Zou and Donner, 2008, "Construction of confidence limits about effect
    measures"): distances of the ends from the means are added as squares.

    Example:
        >>> found = unpaired(Estimate(0.9, 0.87, 0.92), Estimate(0.8, 0.76, 0.84))
        >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
        (0.1, 0.05, 0.145)
    """
    value = new.value - old.value
    if new.low is None or new.high is None or old.low is None or old.high is None:
        return Estimate(value)
    low = value - math.hypot(new.value - new.low, old.high - old.value)
    high = value + math.hypot(new.high - new.value, old.value - old.low)
    return Estimate(value, low, high)


def pair_sweeps(old: Sweep, new: Sweep) -> SweepPair:
    """Return what two sweeps have in common.

    Rows of the same model, strategy, lean and image size are paired, with whatever learning rate.
    Of the others, those of one label are.

    Raises:
        CompareError: They compare other figures, or have no candidate in common.
    """
    if old.settings.metric != new.settings.metric:
        raise CompareError(
            f"the sweeps compare other figures: {old.settings.metric!r} and "
            f"{new.settings.metric!r}; train both with one --metric"
        )
    by_candidate = {_without_rate(row): row for row in old.rows}
    partners = {row.label: by_candidate.get(_without_rate(row)) for row in new.rows}
    taken = {row.label for row in partners.values() if row is not None}
    left = {row.label: row for row in old.rows if row.label not in taken}
    partners = {label: row or left.pop(label, None) for label, row in partners.items()}
    rows = tuple((old_row, row) for row in new.rows if (old_row := partners[row.label]) is not None)
    if not rows:
        before, after = (", ".join(row.label for row in each.rows) or "none" for each in (old, new))
        raise CompareError(
            f"the sweeps have no candidate in common: the old one has {before}, the new one {after}"
        )
    only_new = tuple(label for label, row in partners.items() if row is None)
    return SweepPair(old, new, rows, tuple(left), only_new)


def _without_rate(row: SweepRow) -> Candidate:
    return replace(row.candidate, lr="grid")


def _are_done(*rows: SweepRow) -> bool:
    return all(row.status == "ok" for row in rows)
