"""The largest batch whose predicted peak fits into a memory: the search, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_TRIED = 2, 4  # not 1: a batch norm in train mode may refuse a batch of one
MOST = 1 << 16


@dataclass(frozen=True)
class Largest:
    """A batch that fits beside the next one, which does not.

    Attributes:
        batch: 0 where not even one image fits; `MOST` where a larger one was not tried.
        next_peak_bytes: Of a batch larger by one; None where that was not tried.
        tried: Batches whose peak was predicted.
    """

    batch: int
    next_peak_bytes: int | None
    tried: int


def largest_batch(peak: Callable[[int], int], limit: int, most: int = MOST) -> Largest:
    """Return the largest batch whose peak is within a limit.

    A peak is nearly a straight line in the batch: the line through the two batches nearest to the
    limit is followed until one batch fits and the next does not. Both are asked; that all smaller
    ones fit and all larger ones do not is not.

    Args:
        peak: From a batch size to bytes.
        limit: In bytes.
        most: A batch larger than this is not tried.

    Example:
        >>> largest_batch(lambda batch: 100 + 7 * batch, 1000)
        Largest(batch=128, next_peak_bytes=1003, tried=4)
        >>> largest_batch(lambda batch: 100 + 7 * batch, 100).batch
        0
    """
    tried = {FIRST_TRIED[0]: peak(FIRST_TRIED[0])}
    if tried[FIRST_TRIED[0]] > limit:
        tried[1] = peak(1)
        fits = int(tried[1] <= limit)
        return Largest(fits, tried[fits + 1], len(tried))
    tried[FIRST_TRIED[1]] = peak(FIRST_TRIED[1])
    while True:
        fits = max(batch for batch, size in tried.items() if size <= limit)
        over = min((b for b, size in tried.items() if size > limit and b > fits), default=None)
        if over == fits + 1:
            return Largest(fits, tried[over], len(tried))
        if fits == most:
            return Largest(fits, None, len(tried))
        guess = max(_on_the_line(tried, limit), fits + 1)
        guess = min(guess, most if over is None else over - 1)
        tried[guess] = peak(guess)


def _on_the_line(tried: dict[int, int], limit: int) -> int:
    """Return the batch that meets the limit on the line through the two that are nearest to it."""
    (one, low), (other, high) = sorted(tried.items(), key=lambda item: abs(item[1] - limit))[:2]
    if (high - low) * (other - one) <= 0:  # flat, or falling: no line to follow
        return 2 * max(one, other)
    return one + int((limit - low) * (other - one) // (high - low))
