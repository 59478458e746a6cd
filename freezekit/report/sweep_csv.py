"""A sweep as CSV: one line for each candidate, everything about its sweep in the same line."""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING

from freezekit.report.formatting import plain
from freezekit.sweep.figures import FIGURES
from freezekit.sweep.records import Estimate

if TYPE_CHECKING:
    from freezekit.sweep.records import Sweep, SweepRow

WITH_INTERVAL = ("metric", "metric_to_full", "train_seconds", "train_seconds_to_full")
"""Figures that have three columns: their value, and the ends of its 95 % interval."""


def sweep_csv(sweep: Sweep) -> str:
    """Return a sweep as CSV with a header line; what was not obtained is empty.

    The columns are always the same, so that files of several sweeps can be put together. Fractions,
    bytes and seconds.

    Example:
        >>> from freezekit.sweep.records import Candidate, Settings, Sweep, SweepRow
        >>> from freezekit.training.records import DataFacts
        >>> data = DataFacts("photos", ("a", "b"), 80, 20, "given", "0")
        >>> row = SweepRow(Candidate("m", "full"), "full", True, metric=Estimate(0.9, 0.8, 1.0))
        >>> header, line = sweep_csv(Sweep("0.1.0", data, Settings(5, (0, 1)), {}, (row,))).split()
        >>> found = dict(zip(header.split(","), line.split(",")))
        >>> found["candidate"], found["metric"], found["metric_low"]
        ('full', '0.9', '0.8')
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["freezekit_sweep", *_about(sweep), "candidate", *_COLUMNS, "error"])
    for row in sweep.rows:
        cells = [sweep.freezekit, *_about(sweep).values(), row.label, *_cells(sweep, row)]
        writer.writerow([_text(value) for value in (*cells, row.error)])
    return out.getvalue()


_COLUMNS = tuple(
    column
    for figure in FIGURES
    for column in (
        (figure.name, f"{figure.name}_low", f"{figure.name}_high")
        if figure.name in WITH_INTERVAL
        else (figure.name,)
    )
)


def _about(sweep: Sweep) -> dict[str, object]:
    data, settings = sweep.data, sweep.settings
    return {
        "schema_version": sweep.schema_version,
        "complete": sweep.complete,
        "data": data.source,
        "data_digest": data.digest,
        "train_samples": data.train_samples,
        "val_samples": data.val_samples,
        "classes": len(data.classes),
        "epochs": settings.epochs,
        "seeds": len(settings.seeds),
        "metric_name": settings.metric,
        "batch_size": settings.batch_size,
        "optimizer": settings.optimizer,
        "pretrained": settings.pretrained,
        "amp": settings.amp,
        "device": settings.device,
    }


def _cells(sweep: Sweep, row: SweepRow) -> list[object]:
    cells: list[object] = []
    for figure in FIGURES:
        found = figure.read(sweep, row)
        cells.append(found.value if isinstance(found, Estimate) else found)
        if figure.name in WITH_INTERVAL:
            cells += [found.low, found.high] if isinstance(found, Estimate) else [None, None]
    return cells


def _text(value: object) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(plain(value).split()) if isinstance(value, str) else repr(value)
