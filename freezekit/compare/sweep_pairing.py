"""What two sweeps have in common, and how much each candidate changed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezekit.errors import CompareError
from freezekit.sweep.comparing import difference
from freezekit.sweep.records import Estimate

if TYPE_CHECKING:
    from freezekit.sweep.records import Sweep, SweepRow


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

    Raises:
        CompareError: They compare other figures, or have no candidate in common.
    """
    if old.settings.metric != new.settings.metric:
        raise CompareError(
            f"the sweeps compare other figures: {old.settings.metric!r} and "
            f"{new.settings.metric!r}; train both with one --metric"
        )
    before = {row.label: row for row in old.rows}
    after = {row.label: row for row in new.rows}
    rows = tuple((before[label], row) for label, row in after.items() if label in before)
    if not rows:
        raise CompareError(
            "the sweeps have no candidate in common: the old one has "
            f"{', '.join(before) or 'none'}, the new one {', '.join(after) or 'none'}"
        )
    return SweepPair(
        old,
        new,
        rows,
        tuple(label for label in before if label not in after),
        tuple(label for label in after if label not in before),
    )


def _are_done(*rows: SweepRow) -> bool:
    return all(row.status == "ok" for row in rows)
