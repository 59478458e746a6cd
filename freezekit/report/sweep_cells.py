"""The columns of a sweep, and its title, as text: terminal, Markdown and HTML print the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.report import formatting
from freezekit.report.cells import FAILED, Cells, Column, tabulate
from freezekit.sweep.figures import is_share

if TYPE_CHECKING:
    from freezekit.sweep.records import Estimate, Sweep, SweepRow

VERDICTS = {**FAILED, "diverged": "diverged", "running": "not done"}
"""Of rows that are neither done nor stopped, by their status."""


def sweep_title(sweep: Sweep) -> str:
    """Return what was trained on what, in one line.

    Example:
        >>> from freezekit.sweep.records import Settings, Sweep
        >>> from freezekit.training.records import DataFacts
        >>> data = DataFacts("photos", ("a", "b"), 80, 20, "given", "0")
        >>> print(sweep_title(Sweep("0.1.0", data, Settings(5, (0, 1, 2)), {})))
        photos: 80 + 20 images in 2 classes, 5 epochs, 3 seeds, batch 32, adamw, cpu
    """
    data, settings = sweep.data, sweep.settings
    models = list(dict.fromkeys(row.candidate.model for row in sweep.rows))
    seeds = len(settings.seeds)
    parts = [
        f"{models[0]} on {data.source}" if len(models) == 1 else data.source,
        f"{data.train_samples:,} + {data.val_samples:,} images in {len(data.classes)} classes, "
        f"{settings.epochs} epoch{'s' if settings.epochs > 1 else ''}, "
        f"{seeds} seed{'s' if seeds > 1 else ''}, batch {settings.batch_size}"
        + (f", amp {settings.amp}" if settings.amp else "")
        + (", pretrained" if settings.pretrained else "")
        + f", {settings.optimizer}, {settings.device}",
    ]
    return formatting.plain(": ".join(parts)).replace("\n", " ")


def sweep_cells(sweep: Sweep) -> Cells:
    """Return the columns in which at least one row has something to say.

    Example:
        >>> from freezekit.sweep.records import Candidate, Estimate, Settings, Sweep, SweepRow
        >>> from freezekit.training.records import DataFacts
        >>> data = DataFacts("photos", ("a", "b"), 80, 20, "given", "0")
        >>> row = SweepRow(Candidate("m", "full"), "full", True, status="ok", lr=3e-4,
        ...                metric=Estimate(0.931, 0.91, 0.95))
        >>> found = sweep_cells(Sweep("0.1.0", data, Settings(5, (0, 1, 2)), {}, (row,)))
        >>> [column.title for column in found.columns]
        ['learning rate', 'accuracy, % [95% interval]', 'verdict']
        >>> found.rows
        (('0.0003', '93.1 [91.0, 95.0]', 'baseline'),)
    """
    return tabulate(columns(sweep), [(sweep, row) for row in sweep.rows])


def columns(sweep: Sweep) -> tuple[Column, ...]:
    """Return all columns; that of the metric is called as the metric is."""
    metric, share = sweep.settings.metric, is_share(sweep.settings.metric)
    in_percent, in_points = (", %", ", points") if share else ("", "")
    name = metric.replace("_", " ")
    return (
        Column("learning rate", ("learn.", "rate"), lambda _, row: _lr(row)),
        Column(
            f"{name}{in_percent} [95% interval]",
            (name, "%" if share else ""),
            lambda _, row: estimate(row.metric, share),
            False,
            is_kept=any(row.status == "ok" for row in sweep.rows),
        ),
        Column(
            f"difference to full{in_points} [95% interval]",
            ("difference", "to full"),
            lambda _, row: estimate(row.metric_to_baseline, share, signed=True),
            False,
        ),
        Column(
            "time, ratio to full",
            ("time,", "ratio"),
            lambda _, row: to_full(row, _value(row.train_seconds_to_baseline), row.train_seconds),
        ),
        Column(
            "memory, ratio to full",
            ("mem.,", "ratio"),
            lambda _, row: to_full(row, row.peak_bytes_to_baseline, row.peak_bytes),
        ),
        Column(
            "GFLOP, ratio to full",
            ("GFLOP,", "ratio"),
            lambda _, row: to_full(row, row.gflops_to_baseline, row.gflops),
        ),
        Column("verdict", ("verdict", ""), verdict, False),
    )


def verdict(sweep: Sweep, row: SweepRow) -> str:
    """Return what became of a row, or what may be said of it."""
    if row.status == "stopped":
        return f"stopped at {row.stopped_at}" if row.stopped_at else "stopped"
    if row.status != "ok":
        return VERDICTS[row.status]
    if row.label == sweep.recommended:
        return "recommended"
    if row.is_baseline:
        return "baseline"
    return "on front" if row.on_front else ""


def estimate(found: Estimate | None, share: bool, *, signed: bool = False) -> str:
    """Return a figure with its interval: of a share in % or points.

    Example:
        >>> from freezekit.sweep.records import Estimate
        >>> estimate(Estimate(-0.003, -0.006, -0.0), True, signed=True)
        '-0.3 [-0.6, 0.0]'
        >>> estimate(Estimate(0.5), False)
        '0.500'
    """
    if found is None:
        return formatting.MISSING

    def text(value: float) -> str:
        said = f"{100 * value:.1f}" if share else f"{value:.3f}"
        if float(said) == 0:
            return said.removeprefix("-")
        return f"+{said}" if signed and value > 0 else said

    if found.low is None or found.high is None:
        return text(found.value)
    return f"{text(found.value)} [{text(found.low)}, {text(found.high)}]"


def ratio(value: float | None) -> str:
    """Return a ratio, with two digits at least.

    Example:
        >>> ratio(0.4123), ratio(0.0123), ratio(None)
        ('0.41', '0.012', '-')
    """
    if value is None:
        return formatting.MISSING
    return f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def to_full(row: SweepRow, value: float | None, own: object) -> str:
    """Return a ratio to full; of full itself 1, if the figure itself is known."""
    return "1" if row.is_baseline and own is not None else ratio(value)


def _lr(row: SweepRow) -> str:
    if row.lr is not None:
        return f"{row.lr:.2g}"
    return "auto" if row.candidate.lr == "auto" else formatting.MISSING


def _value(found: Estimate | None) -> float | None:
    return None if found is None else found.value
