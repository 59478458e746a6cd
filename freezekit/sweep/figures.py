"""The list of figures of a sweep: what each is called, what it counts, and how a row has it.

CSV, gates and the sortable table in HTML read this list.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezekit.sweep.comparing import BY_IMAGE, metric_of
from freezekit.sweep.records import Estimate

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit.results.figures import Unit, Value
    from freezekit.sweep.records import Sweep, SweepRow


@dataclass(frozen=True)
class SweepFigure:
    """One figure of a row.

    Attributes:
        name: What gates and CSV call it.
        unit: What it counts.
        explanation: A sentence for the reader.
        read: From a sweep and one of its rows to the value, or to an estimate with its interval;
            None where the row lacks it.
    """

    name: str
    unit: Unit
    explanation: str
    read: Callable[[Sweep, SweepRow], Value | Estimate | None]

    @property
    def is_number(self) -> bool:
        """Whether it counts something."""
        return self.unit not in ("text", "truth")

    def value(self, sweep: Sweep, row: SweepRow) -> Value | None:
        """Return the value without its interval."""
        found = self.read(sweep, row)
        return found.value if isinstance(found, Estimate) else found


def _validated(name: str, unit: Unit, explanation: str) -> SweepFigure:
    def read(sweep: Sweep, row: SweepRow) -> Estimate | None:
        if name == sweep.settings.metric:
            return row.metric
        if row.status not in ("ok", "stopped"):
            return None
        return metric_of(row.trials, name, sweep.data.val_labels)

    return SweepFigure(name, unit, explanation, read)


FIGURES = (
    SweepFigure("model", "text", "The model.", lambda _, row: row.candidate.model),
    SweepFigure(
        "strategy", "text", "The strategy or schedule.", lambda _, row: row.candidate.label
    ),
    SweepFigure("status", "text", "What became of it.", lambda _, row: row.status),
    SweepFigure("lr", "count", "The learning rate of its trials.", lambda _, row: row.lr),
    SweepFigure(
        "metric", "ratio", "The figure by which candidates are compared.", lambda _, row: row.metric
    ),
    _validated("accuracy", "share", "The share of validation images whose class is right."),
    _validated("balanced_accuracy", "share", "The mean over classes of their accuracies."),
    _validated("loss", "count", "The mean loss of the validation images."),
    SweepFigure(
        "metric_to_full",
        "ratio",
        "The difference of the metric to full, paired by seed and by image.",
        lambda _, row: row.metric_to_baseline,
    ),
    SweepFigure(
        "train_seconds",
        "seconds",
        "Of the steps of a whole training.",
        lambda _, row: row.train_seconds,
    ),
    SweepFigure(
        "train_seconds_to_full",
        "ratio",
        "The ratio of these to full's, paired by seed.",
        lambda _, row: row.train_seconds_to_baseline,
    ),
    SweepFigure(
        "gflops",
        "count",
        "10^9 floating-point operations of a whole training.",
        lambda _, row: row.gflops,
    ),
    SweepFigure(
        "gflops_to_full",
        "ratio",
        "The ratio of these to full's.",
        lambda _, row: row.gflops_to_baseline,
    ),
    SweepFigure(
        "peak_bytes", "bytes", "The predicted peak of a step.", lambda _, row: row.peak_bytes
    ),
    SweepFigure(
        "peak_bytes_to_full",
        "ratio",
        "The ratio of it to full's.",
        lambda _, row: row.peak_bytes_to_baseline,
    ),
    SweepFigure(
        "on_front",
        "truth",
        "Whether no other candidate has a better metric at no more GFLOP and memory.",
        lambda _, row: row.on_front,
    ),
    SweepFigure(
        "recommended",
        "truth",
        "Whether it is the cheapest that is about as good as the best.",
        lambda sweep, row: row.label == sweep.recommended if sweep.recommended else None,
    ),
)


def is_share(metric: str) -> bool:
    """Return whether a metric is a share of images, which is told in % and points.

    Example:
        >>> is_share("accuracy"), is_share("f1")
        (True, False)
    """
    return metric in BY_IMAGE


def baseline_of(sweep: Sweep, row: SweepRow) -> SweepRow | None:
    """Return stock `full` of a row's model; None where the sweep has none yet."""
    rows = (one for one in sweep.rows if one.is_baseline)
    return next((one for one in rows if one.candidate.model == row.candidate.model), None)
