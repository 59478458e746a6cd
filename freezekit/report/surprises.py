"""Which rows do something that a reader would not expect: asked here, told by others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.results.derived import (
    eager_of,
    flops,
    fraction,
    noise_floor,
    saved_against,
    stock_of,
    trainable_fraction,
)
from freezekit.results.records import FREES_LITTLE

if TYPE_CHECKING:
    from freezekit.results.records import Outlook, Result, Row

LEAN_PAYS = 0.05  # of the saved activations of `full`, for lean to be worth a mention
FEWER_FLOPS = 0.05  # of those of `full`
FLOPS_GAP = 0.03  # between a ratio of FLOPs and a ratio of times, to speak of it


def alone(result: Result, full: Row) -> list[Row]:
    """Return the rows but `full`, and but those that are told of beside a stock or an eager row."""
    return [
        row
        for row in result.rows
        if row is not full and stock_of(result, row) is None and eager_of(result, row) is None
    ]


def lean_pairs(result: Result) -> list[tuple[Row, Row]]:
    """Return each lean row with the stock row of the same strategy."""
    return [(row, stock) for row in result.rows if (stock := stock_of(result, row))]


def frees_little(full: Row, row: Row) -> bool:
    """Tell whether a row freezes parameters and frees next to no saved activations."""
    remaining = saved_against(full, row)
    trains = fraction(trainable_fraction(row), trainable_fraction(full))
    if remaining is None or trains is None:
        return False
    return trains < 1 and remaining >= 1 - FREES_LITTLE


def lean_outlook(full: Row, row: Row) -> Outlook | None:
    """Return what a row would be with lean; None where it is not known or next to nothing."""
    if row.with_lean is None:
        return None
    left, before = row.with_lean.saved_activations_bytes, full.memory.saved_activations_bytes
    of_full, remaining = fraction(left, before), saved_against(full, row)
    if of_full is None or remaining is None or remaining - of_full < LEAN_PAYS:
        return None
    return row.with_lean


def trains_the_same(full: Row, row: Row) -> bool:
    """Tell whether a stock row trains what `full` trains, and saves the same activations."""
    remaining = saved_against(full, row)
    if row.lean or row.parameters is None or full.parameters is None or remaining is None:
        return False
    same = row.parameters.trainable_digest == full.parameters.trainable_digest
    return same and abs(remaining - 1) <= FREES_LITTLE


def work_without_time(full: Row, row: Row) -> float | None:
    """Return the FLOPs of a row as a fraction, where they are fewer and its time is not."""
    work = fraction(flops(row), flops(full))
    if work is None or row.time is None or row.time.ratio is None or work >= 1 - FEWER_FLOPS:
        return None
    return work if row.time.verdict == "no difference shown" else None


def widest_gap(result: Result, full: Row) -> tuple[str, float, float] | None:
    """Return label, work and time of the row where these differ most, by more than noise."""
    floor = noise_floor(result)
    if floor is None:
        return None
    shown = [row for row in result.rows if row.time and row.time.verdict in ("faster", "slower")]
    gaps = [
        (row.label, work, time.ratio)
        for row in shown
        if (time := row.time) is not None
        and time.ratio
        and time.ratio_ci
        and (work := fraction(flops(row), flops(full))) is not None
        and not time.ratio_ci[0] <= work <= time.ratio_ci[1]
    ]
    widest = max(gaps, key=lambda gap: abs(gap[1] - gap[2]), default=None)
    if widest is None or abs(widest[1] - widest[2]) < max(FLOPS_GAP, floor):
        return None
    return widest
