"""What caches cost and when they pay, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.report import cache_text
from freezekit.report.formatting import number, ratio

if TYPE_CHECKING:
    from freezekit.results.records import CacheFigures, Filling, Result


def filling_notes(result: Result) -> tuple[str, ...]:
    """Return a sentence for each cached row that was timed.

    Example:
        >>> from freezekit.results.records import CacheFigures, Filling, Result, Row, Workload
        >>> filling = Filling(5.2, 0.125, (0.12, 0.13), "faster", 2)
        >>> row = Row("head-only", cached=True, cache=CacheFigures(2048), filling=filling)
        >>> print(*filling_notes(Result("0.1.0", Workload("timm:resnet18"), {}, (row,))))
        head-only [cache] pays after 2 epochs: 0.12 [0.12, 0.13] of the step time on images; 1,000
        samples take 5.20 s to fill and 2 MiB
    """
    return tuple(
        f"{row.label} {_pays(row.filling)}; {_costs(row.filling, row.cache)}"
        for row in result.rows
        if row.filling
    )


def _pays(filling: Filling) -> str:
    if filling.ratio_to_uncached is None:
        return "was not timed beside the same strategy on images: --cache both does"
    of_images = ratio(filling.ratio_to_uncached, filling.ratio_to_uncached_ci, filling.verdict)
    of_images += " of the step time on images"
    if filling.verdict == "slower":
        return f"does not pay: {of_images}"
    if filling.pays_after_epochs is None:
        return f"is not shown to pay: {of_images}"
    epochs = (
        "1 epoch" if filling.pays_after_epochs == 1 else f"{filling.pays_after_epochs:,} epochs"
    )
    return f"pays after {epochs}: {of_images}"


def _costs(filling: Filling, cache: CacheFigures | None) -> str:
    seconds = f"1,000 samples take {number(filling.fill_seconds_per_1000_samples)} s to fill"
    if cache is None or cache.bytes_per_sample is None:
        return seconds
    return f"{seconds} and {cache_text.size(cache, 1000)}"
