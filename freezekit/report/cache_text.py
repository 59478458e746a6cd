"""What a cache of a frozen prefix would hold, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.report.formatting import MISSING
from freezekit.report.phrasing import listed, percent
from freezekit.results.derived import fraction
from freezekit.results.sizes import size_text

if TYPE_CHECKING:
    from freezekit.results.records import CacheFigures

MOST_NAMES = 40  # characters of a boundary


def size(found: CacheFigures, samples: int = 1) -> str:
    """Return the bytes of samples with their unit.

    Example:
        >>> from freezekit.results.records import CacheFigures
        >>> size(CacheFigures(2048, ("avgpool",))), size(CacheFigures(reason="why"))
        ('2 KiB', '-')
    """
    if found.bytes_per_sample is None:
        return MISSING
    return size_text(samples * found.bytes_per_sample)


def sentence(found: CacheFigures) -> str:
    """Return what a cache would keep and skip, or why there can be none.

    Example:
        >>> from freezekit.results.records import CacheFigures
        >>> print(sentence(CacheFigures(2048, ("avgpool",), 99, 100)))
        cache: 2 KiB a sample, the output of avgpool; skips 99.0 % of the FLOPs of a forward
        >>> print(sentence(CacheFigures(reason="nothing is frozen")))
        no cache: nothing is frozen
    """
    if found.bytes_per_sample is None:
        return f"no cache: {found.reason}"
    skipped = percent(fraction(found.skipped_flops, found.forward_flops))
    return (
        f"cache: {size(found)} a sample, the output of {listed(found.boundary, MOST_NAMES)}; "
        f"skips {skipped} of the FLOPs of a forward"
    )
