"""The figures of a sweep's rows, its front and its recommendation, from the trials alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from freezekit.sweep.candidates import baseline_of
from freezekit.sweep.comparing import (
    BY_IMAGE,
    difference,
    excludes_zero,
    metric_of,
    paired_by_seed,
)
from freezekit.sweep.front import Point, on_front
from freezekit.sweep.intervals import over_seeds, ratio_over_seeds
from freezekit.sweep.sentences import sentences_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.sweep.records import Estimate, Settings, Sweep, SweepRow
    from freezekit.training.records import Trial


MUCH = 0.02
"""A loss of accuracy that a recommended row may not have, as far as its interval tells."""


def with_figures(sweep: Sweep) -> Sweep:
    """Return a sweep with all that follows from its trials.

    Differences, the front and the recommendation concern rows with the status "ok": the accuracy of
    a trial that was stopped is not that of a whole training.
    """
    labels, settings = sweep.data.val_labels, sweep.settings
    rows = tuple(_with_own(row, settings, labels) for row in sweep.rows)
    rows = tuple(_with_ratios(row, baseline_of(row, rows), settings, labels) for row in rows)
    front = _front(rows, settings)
    rows = tuple(
        replace(row, on_front=row.label in front if _point(row, settings) else None) for row in rows
    )
    found = replace(sweep, rows=rows)
    found = replace(found, recommended=recommended(found))
    return replace(found, sentences=sentences_of(found))


def recommended(sweep: Sweep) -> str | None:
    """Return the label of the cheapest row that is about as good as the best one.

    Cheaper is less GFLOP, and less memory where that is equal. Of rows whose cost is not known, the
    best one counts as the dearest. With one seed nothing is shown, and nothing is recommended.
    """
    done = _done(sweep)
    if len(done) < 2 or len(sweep.settings.seeds) < 2:
        return None
    best = best_of(done, sweep.settings)
    able = [row for row in done if is_about_as_good(row, best, sweep)]
    return min(able, key=lambda row: _dearness(row, best)).label


def best_of(rows: Sequence[SweepRow], settings: Settings) -> SweepRow:
    """Return the row with the best mean of the metric; of equal ones the first."""
    sign = 1 if settings.higher_is_better else -1
    return max(rows, key=lambda row: sign * row.metric.value if row.metric else -float("inf"))


def is_about_as_good(row: SweepRow, best: SweepRow, sweep: Sweep) -> bool:
    """Return whether the paired interval to the best row includes 0, and no loss above `MUCH`.

    An interval that reaches further says little: the row may be as good, or far worse. How much is
    much is known of accuracies alone. A lean row has the same bits as its stock one.
    """
    if replace(row.candidate, lean=best.candidate.lean) == best.candidate:
        return True
    settings = sweep.settings
    found = difference(row.trials, best.trials, settings.metric, sweep.data.val_labels)
    if found is None or found.low is None or excludes_zero(found):
        return False
    return settings.metric not in BY_IMAGE or found.low >= -MUCH


def doubt(sweep: Sweep) -> str | None:
    """Return a note of rows that are cheaper than the recommended one, and may be as good.

    That few seeds or images show no difference does not mean that there is none.
    """
    settings, done = sweep.settings, _done(sweep)
    chosen = next((row for row in done if row.label == sweep.recommended), None)
    if chosen is None:
        return None
    best = best_of(done, settings)
    cheaper = [row for row in done if _dearness(row, best) < _dearness(chosen, best)]
    found = [
        row.label
        for row in cheaper
        if not excludes_zero(
            difference(row.trials, best.trials, settings.metric, sweep.data.val_labels)
        )
    ]
    if not found:
        return None
    return (
        f"{', '.join(found)}: cheaper than {chosen.label}, and with so few validation images or "
        f"seeds not told apart from {best.label}: may be as good, or much worse"
    )


def train_seconds(trial: Trial) -> float:
    """Return the seconds of a trial's steps."""
    return sum(epoch.train_seconds for epoch in trial.epochs)


def gflops(trials: Sequence[Trial]) -> float | None:
    """Return the counted operations of a training, in 10^9; the mean over trials.

    Returns:
        None where an epoch has none.

    Example:
        >>> gflops([]) is None
        True
    """
    counts = [epoch.flops for trial in trials for epoch in trial.epochs]
    known = [count for count in counts if count is not None]
    if not known or len(known) < len(counts):
        return None
    return sum(known) / len(trials) / 1e9


def peak_bytes(trials: Sequence[Trial]) -> int | None:
    """Return the highest predicted peak; None where a trial has none."""
    peaks = [trial.peak_bytes for trial in trials if trial.peak_bytes is not None]
    return max(peaks) if peaks and len(peaks) == len(trials) else None


def _done(sweep: Sweep) -> list[SweepRow]:
    return [row for row in sweep.rows if row.status == "ok" and row.metric is not None]


def _dearness(row: SweepRow, best: SweepRow) -> tuple[float, float, bool]:
    return (*(_cost(row) or (float("inf"), float("inf"))), row is not best)


def _with_own(row: SweepRow, settings: Settings, labels: Sequence[int]) -> SweepRow:
    ended = row.trials if row.status in ("ok", "stopped") else ()
    same_length = len({len(trial.epochs) for trial in ended}) == 1
    return replace(
        row,
        metric=metric_of(ended, settings.metric, labels) if same_length else None,
        train_seconds=over_seeds(_seconds(ended)) if same_length else None,
        gflops=gflops(ended) if same_length else None,
        peak_bytes=peak_bytes(row.trials) or row.peak_bytes,  # as predicted before
    )


def _with_ratios(
    row: SweepRow, baseline: SweepRow, settings: Settings, labels: Sequence[int]
) -> SweepRow:
    is_paired = row is not baseline and row.status == baseline.status == "ok"
    pairs = paired_by_seed(row.trials, baseline.trials) if is_paired else []
    seconds: Estimate | None = None
    if pairs:
        seconds = ratio_over_seeds(_seconds([a for a, _ in pairs]), _seconds([b for _, b in pairs]))
    return replace(
        row,
        metric_to_baseline=difference(row.trials, baseline.trials, settings.metric, labels)
        if pairs
        else None,
        train_seconds_to_baseline=seconds,
        gflops_to_baseline=_ratio(row.gflops, baseline.gflops) if pairs else None,
        peak_bytes_to_baseline=None
        if row is baseline
        else _ratio(row.peak_bytes, baseline.peak_bytes),
    )


def _front(rows: Sequence[SweepRow], settings: Settings) -> set[str]:
    points = [point for row in rows if (point := _point(row, settings))]
    return {point.label for point in on_front(points)}


def _point(row: SweepRow, settings: Settings) -> Point | None:
    cost = _cost(row)
    if row.status != "ok" or row.metric is None or cost is None:
        return None
    sign = 1 if settings.higher_is_better else -1
    return Point(row.label, sign * row.metric.value, cost)


def _cost(row: SweepRow) -> tuple[float, float] | None:
    if row.gflops is None or row.peak_bytes is None:
        return None
    return row.gflops, float(row.peak_bytes)


def _seconds(trials: Sequence[Trial]) -> list[float]:
    return [train_seconds(trial) for trial in trials]


def _ratio(value: float | None, other: float | None) -> float | None:
    return None if value is None or not other else value / other
