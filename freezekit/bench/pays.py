"""When a cache pays: the time to fill it against the time that its steps save; no torch."""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING

from msgspec.structs import replace

from freezekit.bench.statistics import block_scores, estimate, verdict
from freezekit.results.records import DISCARDED_STEPS, Filling

if TYPE_CHECKING:
    from freezekit.results.records import Raw


def filling(
    raw: Raw, label: str, uncached: str, *, batch_size: int, floor: float | None
) -> Filling | None:
    """Return what the cache of a row costs, and after how many epochs it pays.

    An epoch saves the difference of the step times for each of its batches. Filling takes one
    forward of the prefix for each. So the number of samples does not matter.

    Args:
        raw: Complete blocks.
        label: Of the cached row.
        uncached: Of the row of the same strategy on images; it may be missing.
        batch_size: Samples in a batch.
        floor: The noise floor as a ratio less 1, None where it is unknown.

    Example:
        >>> from freezekit.results.records import Raw
        >>> block = [{"full": [9.0, 4.0, 4.0], "a": [9.0, 2.0, 2.0], "a [cache]": [9.0, 0.5, 0.5]}]
        >>> raw = Raw(steps=[block, block], fill=[{"a [cache]": [9.0, 1.6, 1.6]}] * 2)
        >>> found = filling(raw, "a [cache]", "a", batch_size=8, floor=0.01)
        >>> found.fill_seconds_per_1000_samples, found.ratio_to_uncached, found.pays_after_epochs
        (200.0, 0.25, 2)
    """
    seconds = [s for block in raw.fill for s in block.get(label, ())[DISCARDED_STEPS:]]
    if not seconds:
        return None
    of_batch = median(seconds)
    cost = Filling(1000 * of_batch / batch_size)
    scores = block_scores(raw, label, uncached)
    if not scores:
        return cost
    found = estimate(scores)
    said = verdict(found, None if floor is None else math.log1p(floor))
    plain = median(
        s
        for rounds in raw.steps
        for turns in rounds
        for s in turns.get(uncached, ())[DISCARDED_STEPS:]
    )
    saved = plain * (1 - found.ratio)
    return replace(
        cost,
        ratio_to_uncached=found.ratio,
        ratio_to_uncached_ci=found.ci,
        verdict=said,
        pays_after_epochs=math.floor(of_batch / saved) + 1 if said == "faster" else None,
    )
