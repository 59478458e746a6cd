"""What the intervals of a sweep carry, in sentences; the only place of points and % in this folder.

A sentence claims a difference only where its interval excludes none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.sweep.candidates import baseline_of
from freezekit.sweep.comparing import BY_IMAGE, excludes_zero

if TYPE_CHECKING:
    from freezekit.sweep.records import Estimate, Settings, Sweep, SweepRow


def sentences_of(sweep: Sweep) -> tuple[str, ...]:
    """Return a sentence for each row that is compared with its baseline, in the order of rows.

    Example:
        >>> from freezekit.sweep.records import Candidate, Estimate, Settings, Sweep, SweepRow
        >>> from freezekit.training.records import DataFacts
        >>> full = SweepRow(Candidate("m", "full"), "full", True, status="ok")
        >>> half = SweepRow(Candidate("m", "first-n-stages:n=2"), "first-n-stages:n=2", status="ok",
        ...                 metric_to_baseline=Estimate(-0.003, -0.006, -0.0004),
        ...                 train_seconds_to_baseline=Estimate(0.41, 0.39, 0.43),
        ...                 peak_bytes_to_baseline=0.52)
        >>> data = DataFacts("photos", ("a", "b"), 80, 20, "given", "0")
        >>> print(*sentences_of(Sweep("0.1.0", data, Settings(5, (0, 1)), {}, (full, half))))
        first-n-stages:n=2 loses 0.3 points (0.0 to 0.6) against full and takes 41 % of the time and
        52 % of the memory
    """
    found = []
    for row in sweep.rows:
        base = baseline_of(row, sweep.rows)
        if row is not base and row.metric_to_baseline is not None:
            found.append(_sentence(row, base.label, row.metric_to_baseline, sweep.settings))
    return tuple(found)


def _sentence(row: SweepRow, base: str, gain: Estimate, settings: Settings) -> str:
    costs = [_time(row.train_seconds_to_baseline)] if row.train_seconds_to_baseline else []
    if row.peak_bytes_to_baseline is not None:
        costs.append(f"{_percent(row.peak_bytes_to_baseline)} of the memory")
    takes = f" and takes {' and '.join(costs)}" if costs else ""
    return f"{row.label} {_gain(gain, base, settings)}{takes}"


def _gain(found: Estimate, base: str, settings: Settings) -> str:
    is_share = settings.metric in BY_IMAGE
    unit = " points" if is_share else ""

    def text(value: float) -> str:
        return f"{round(100 * value, 1) + 0.0:.1f}" if is_share else f"{value:.3g}"

    value, low, high = found.value, found.low, found.high
    size = f"{text(abs(value))}{unit}"
    if low is None or high is None:
        where = f"{size} {'above' if value > 0 else 'below'}" if value else "as good as"
        seeds = "with one seed" if len(settings.seeds) == 1 else "with each seed alike"
        return f"is {where} {base} {seeds}, which shows no difference,"
    if not excludes_zero(found):
        return f"is not told apart from {base} ({text(low)} to {text(high)}{unit})"
    least, most = sorted((abs(low), abs(high)))
    return f"{_word(value, settings)} {size} ({text(least)} to {text(most)}) against {base}"


def _word(value: float, settings: Settings) -> str:
    """Return what happened; a metric that is no accuracy is named, as less of it may be better."""
    if settings.metric in BY_IMAGE:
        return "gains" if value > 0 else "loses"
    return f"has a {settings.metric} {'higher' if value > 0 else 'lower'} by"


def _time(ratio: Estimate) -> str:
    said = f"{_percent(ratio.value)} of the time"
    if ratio.low is None or ratio.high is None:
        return f"{said} (no interval)"
    if ratio.low <= 1 <= ratio.high:
        ends = f"{_percent(ratio.low)} to {_percent(ratio.high)}"
        return f"{said} ({ends}: no difference shown)"
    return said


def _percent(ratio: float) -> str:
    """Return a ratio in %, with two digits at least.

    Example:
        >>> _percent(0.412), _percent(0.052), _percent(1.3)
        ('41 %', '5.2 %', '130 %')
    """
    return f"{100 * ratio:.0f} %" if ratio >= 0.0995 else f"{100 * ratio:.2g} %"
