"""The largest batch whose predicted peak fits into a memory: the search, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezekit.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_TRIED = 2, 4  # not 1: a batch norm in train mode refuses one image of one place
LEADS = 2  # the second one knows a batch near the answer, where other moments may be the highest
MAX_BATCH = 1 << 16  # a larger batch is not tried
MAX_GROWTH = 64  # times the largest batch known to fit: the crossing of a flat line may be far


@dataclass(frozen=True)
class Largest:
    """The largest batch that fits.

    Attributes:
        batch: 0 where not even one image fits; `MAX_BATCH` where no larger one was tried.
        next_peak_bytes: Of the next larger batch; None where that was not tried.
        tried: Batches whose peak was predicted.
    """

    batch: int
    next_peak_bytes: int | None
    tried: int


def largest_batch(
    peak: Callable[[int], int],
    limit: int,
    most: int = MAX_BATCH,
    lead: Callable[[int], int | None] = lambda _: None,
) -> Largest:
    """Return the largest batch whose peak is within a limit.

    A peak is the highest of several moments of a step, and each grows almost linearly with the
    batch. The search follows the line through the two largest batches that fit. It overshoots where
    another moment becomes the highest. Then it takes the line between the largest batch that fits
    and the smallest that does not, which falls short. Where neither helps, it takes the middle. The
    peaks of the returned batch and of the next one are computed. Where `lead` knows more than two
    lines, its answer is tried first. That all smaller batches fit, and
    that no larger one does, is assumed.

    Args:
        peak: From a batch size to bytes; may raise `ModelError` for a batch of one.
        limit: In bytes.
        most: A batch larger than this is not tried.
        lead: From the limit to the largest batch, as expected by what was tried, which is two
            batches at least; None where nothing is expected.

    Example:
        >>> largest_batch(lambda batch: 100 + 7 * batch, 1000)
        Largest(batch=128, next_peak_bytes=1003, tried=4)
        >>> largest_batch(lambda batch: max(900 + batch, 7 * batch), 1000)
        Largest(batch=100, next_peak_bytes=1001, tried=4)
        >>> largest_batch(lambda batch: 100 + 7 * batch, 100).batch
        0
    """
    first, second = FIRST_TRIED
    tried = {first: peak(first)}
    if tried[first] > limit:
        try:
            tried[1] = peak(1)
        except ModelError:
            return Largest(0, tried[first], len(tried))
        fits = int(tried[1] <= limit)
        return Largest(fits, tried[fits + 1], len(tried))
    tried[second] = peak(second)
    for _ in range(LEADS):
        expected = lead(limit)
        for batch in () if expected is None else (min(expected, most), min(expected + 1, most)):
            if batch not in tried:
                tried[batch] = peak(batch)
            if tried[batch] > limit:
                break
    widths: list[int] = []
    while True:
        fitting = sorted(batch for batch, size in tried.items() if size <= limit)
        fits = fitting[-1]
        over = min((b for b, size in tried.items() if size > limit and b > fits), default=None)
        if over == fits + 1:
            return Largest(fits, tried[over], len(tried))
        if fits == most:
            return Largest(fits, None, len(tried))
        if over is None:
            led = _crossing(tried, fitting[-2], fits, limit)
            guess = min(led or 2 * fits, MAX_GROWTH * fits, most)
        else:
            widths.append(over - fits)
            slow = len(widths) > 2 and widths[-1] > widths[-3] / 2
            from_below = len(fitting) > 1 and len(widths) % 2
            one, other = (fitting[-2], fits) if from_below else (fits, over)
            led = None if slow else _crossing(tried, one, other, limit)
            guess = led if led and led < over else (fits + over) // 2
        guess = max(guess, fits + 1)
        tried[guess] = peak(guess)


def _crossing(tried: dict[int, int], one: int, other: int, limit: int) -> int | None:
    """Return the batch at which the line through two batches crosses a limit, None if flat."""
    rise = tried[other] - tried[one]
    return one + (limit - tried[one]) * (other - one) // rise if rise > 0 else None
