"""What caches cost and when they pay, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.report import cache_text
from freezekit.report.formatting import number, ratio
from freezekit.report.phrasing import listed

if TYPE_CHECKING:
    from freezekit.results.records import CacheFigures, Filling, Result

MOST_NAMES = 60  # characters; a sentence of two lines has room for no more


def filling_notes(result: Result) -> tuple[str, ...]:
    """Return a sentence for each cached row that was timed.

    Example:
        >>> from freezekit.results.records import CacheFigures, Filling, Result, Row, Workload
        >>> filling = Filling(5.2, 0.125, (0.12, 0.13), "faster", 2)
        >>> row = Row("head-only", cached=True, cache=CacheFigures(2048), filling=filling)
        >>> print(*filling_notes(Result("0.1.0", Workload("timm:resnet18"), {}, (row,))))
        head-only [cache] pays after 2 epochs: 0.12 [0.12, 0.13] of the step time on images; 1,000
        samples take 5.20 s to fill and 1.95 MiB
    """
    return tuple(
        f"{row.label} {_pays(row.filling)}; {_costs(row.filling, row.cache)}"
        for row in result.rows
        if row.filling
    )


def filling_in_short(result: Result) -> str | None:
    """Return a sentence on all cached rows that were timed, None where there are none."""
    timed = [(row, row.filling) for row in result.rows if row.filling]
    if len(timed) < 2:
        return next(iter(filling_notes(result)), None)
    paying = [
        f"{row.label} (after {_epochs(filling.pays_after_epochs)})"
        for row, filling in timed
        if filling.pays_after_epochs is not None
    ]
    others = [row.label for row, filling in timed if filling.pays_after_epochs is None]
    parts = [
        f"{words} {listed(names, MOST_NAMES)}"
        for words, names in (("pay:", paying), ("are not shown to pay:", others))
        if names
    ]
    return f"caches {'; others '.join(parts)}"


def _pays(filling: Filling) -> str:
    if filling.ratio_to_uncached is None:
        return "was not timed beside the same strategy on images: --cache both does"
    of_images = ratio(filling.ratio_to_uncached, filling.ratio_to_uncached_ci, filling.verdict)
    of_images += " of the step time on images"
    if filling.verdict == "slower":
        return f"does not pay: {of_images}"
    if filling.pays_after_epochs is None:
        return f"is not shown to pay: {of_images}"
    return f"pays after {_epochs(filling.pays_after_epochs)}: {of_images}"


def _epochs(count: int) -> str:
    return "1 epoch" if count == 1 else f"{count:,} epochs"


def _costs(filling: Filling, cache: CacheFigures | None) -> str:
    seconds = f"1,000 samples take {number(filling.fill_seconds_per_1000_samples)} s to fill"
    if cache is None or cache.bytes_per_sample is None:
        return seconds
    return f"{seconds} and {cache_text.size(cache, 1000)}"
