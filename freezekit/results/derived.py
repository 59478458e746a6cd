"""What follows from the records of a result, as fractions; all that show a result share it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from freezekit.results.variant import BASELINE

if TYPE_CHECKING:
    from freezekit.results.records import Result, Row


def baseline(result: Result) -> Row | None:
    """Return the row of stock `full`, None where there is none."""
    return next((row for row in result.rows if row.variant == BASELINE), None)


def stock_of(result: Result, row: Row) -> Row | None:
    """Return the stock row beside a lean one, None where there is none or the row is stock."""
    if not row.lean:
        return None
    return next((other for other in result.rows if other.variant == row.variant.stock), None)


def eager_of(result: Result, row: Row) -> Row | None:
    """Return the eager row beside a compiled one, None where there is none or the row is eager."""
    if not row.compiled:
        return None
    return next((other for other in result.rows if other.variant == row.variant.eager), None)


def fraction(part: float | None, whole: float | None) -> float | None:
    """Return part / whole, None where one is missing or the whole is 0.

    Example:
        >>> fraction(1, 4), fraction(None, 4), fraction(1, 0)
        (0.25, None, None)
    """
    return None if part is None or not whole else part / whole


def trainable_fraction(row: Row) -> float | None:
    """Return the trainable share of a row's parameters."""
    return fraction(row.parameters.trainable, row.parameters.total) if row.parameters else None


def peak_change(result: Result, row: Row) -> float | None:
    """Return the change of a row's peak against `full`, as a fraction of the latter.

    None for `full` itself, and where one peak was measured and the other predicted: a measured one
    holds workspace, a predicted one does not.
    """
    full = baseline(result)
    return None if full is None or row is full else peak_change_from(full, row)


def peak_change_from(before: Row, row: Row) -> float | None:
    """Return the change of one row's peak against that of another, None as in `peak_change`."""
    if row.memory.peak_method != before.memory.peak_method:
        return None
    remaining = fraction(row.memory.peak_bytes, before.memory.peak_bytes)
    return None if remaining is None else remaining - 1


def saved_against(full: Row, row: Row) -> float | None:
    """Return a row's saved activations as a fraction of those of `full`."""
    return fraction(row.memory.saved_activations_bytes, full.memory.saved_activations_bytes)


def flops(row: Row) -> int | None:
    """Return a row's floating-point operations of one step, forward and backward."""
    return row.flops.forward + row.flops.backward if row.flops else None


def mixed_peaks(result: Result) -> bool:
    """Return whether some peaks of a result were measured and some predicted."""
    return len({row.memory.peak_method for row in result.rows} - {None}) > 1


def noise_floor(result: Result) -> float | None:
    """Return the ratio less 1 under which no difference is claimed, None where it is unknown.

    The far end of the control's interval, as the verdicts take it.

    Example:
        >>> from freezekit.results.records import Control, Result, Workload
        >>> work, control = Workload("timm:resnet18"), Control(1.0, (0.99, 1.02))
        >>> round(noise_floor(Result("0.1.0", work, {}, control=control)), 4)
        0.02
    """
    if result.control is None or result.control.ratio_ci is None:
        return None
    return math.expm1(max(abs(math.log(end)) for end in result.control.ratio_ci))
