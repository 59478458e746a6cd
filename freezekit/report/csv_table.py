"""Results as CSV: one line for each row, everything about its run in the same line.

The columns are always the same, so that files of several models and runs can be put together.
Bytes, seconds and fractions; what was not obtained is empty.
"""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING

from freezekit.report.formatting import plain
from freezekit.results.figures import FIGURES
from freezekit.results.records import Result, Row, Workload

if TYPE_CHECKING:
    from collections.abc import Sequence

ENVIRONMENT = ("python", "torch", "torchvision", "timm", "platform", "cpu", "threads")

Value = str | int | float | bool | None


def render_csv(results: Sequence[Result]) -> str:
    r"""Return results as CSV with a header line.

    Example:
        >>> from freezekit.results.records import Result, Row, Workload
        >>> result = Result("0.1.0", Workload("timm:resnet18"), {}, rows=(Row("full"),))
        >>> header, line = render_csv([result]).splitlines()
        >>> dict(zip(header.split(","), line.split(",")))["strategy"]
        'full'
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for result in results:
        for row in result.rows:
            writer.writerow([_text(value) for value in _record(result, row).values()])
    return out.getvalue()


def _record(result: Result, row: Row) -> dict[str, Value]:
    figures = {figure.column: figure.read(result, row) for figure in FIGURES}
    return {**_run(result), **_row(row), **figures, **_control(result)}


def _run(result: Result) -> dict[str, Value]:
    work = result.workload
    shape = "x".join(map(str, work.input_shape)) if work.input_shape else None
    return {
        "freezekit": result.freezekit,
        "schema_version": result.schema_version,
        "protocol": result.protocol,
        "complete": result.complete,
        "model": work.model,
        "pretrained": work.pretrained,
        "num_classes": work.num_classes,
        "input_shape": shape,
        "batch_size": work.batch_size,
        "channels_last": work.channels_last,
        "dtype": work.dtype,
        "amp": work.amp,
        "optimizer": work.optimizer,
        "loss": work.loss,
        "seed": work.seed,
        "device": work.device,
        "device_name": _plain_fact(result.env.get("device")),
        **{name: _plain_fact(result.env.get(name)) for name in ENVIRONMENT},
    }


def _row(row: Row) -> dict[str, Value]:
    """Return what is said of a row beside its figures."""
    plugin, parameters = row.plugin, row.parameters
    return {
        "status": row.status,
        "error": row.error,
        "plugin_name": plugin.name if plugin else None,
        "plugin_distribution": plugin.distribution if plugin else None,
        "plugin_version": plugin.version if plugin else None,
        "trainable_digest": parameters.trainable_digest if parameters else None,
        "peak_method": row.memory.peak_method,
        "warnings": "; ".join(row.warnings) or None,
        "schedule": row.phase.schedule if row.phase else None,
        "phase": row.phase.index if row.phase else None,
        "phase_begins": row.phase.begins if row.phase else None,
        "phase_steps": row.phase.steps if row.phase else None,
    }


def _control(result: Result) -> dict[str, Value]:
    control = result.control
    low, high = (control.ratio_ci if control else None) or (None, None)
    return {
        "control_ratio": control.ratio if control else None,
        "control_ci_low": low,
        "control_ci_high": high,
    }


def _plain_fact(value: object) -> Value:
    """Return what fits in a cell; lists and objects of the environment stay in the JSON file."""
    return value if isinstance(value, (str, int, float)) else None


def _text(value: Value) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    # One line for each row, for readers that split by lines.
    return " ".join(plain(value).split("\n")) if isinstance(value, str) else repr(value)


COLUMNS = tuple(_record(Result("", Workload(""), env={}), Row("full")))
