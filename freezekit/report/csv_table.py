"""Results as CSV: one line for each row, everything about its run in the same line.

The columns are always the same, so that files of several models and runs can be put together.
Bytes, seconds and fractions; what was not obtained is empty.
"""

from __future__ import annotations

import csv
import io
import math
from dataclasses import fields
from typing import TYPE_CHECKING

from freezekit.report.formatting import plain
from freezekit.results.figures import peak_change, trainable_fraction
from freezekit.results.records import Memory, Result, Row, Workload

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
    return {**_run(result), **_strategy(result, row), **_memory(row), **_time(result, row)}


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


def _strategy(result: Result, row: Row) -> dict[str, Value]:
    plugin, parameters = row.plugin, row.parameters
    return {
        "strategy": row.strategy,
        "lean": row.lean,
        "status": row.status,
        "error": row.error,
        "plugin_name": plugin.name if plugin else None,
        "plugin_distribution": plugin.distribution if plugin else None,
        "plugin_version": plugin.version if plugin else None,
        "parameters_total": parameters.total if parameters else None,
        "parameters_trainable": parameters.trainable if parameters else None,
        "trainable_fraction": trainable_fraction(row),
        "trainable_digest": parameters.trainable_digest if parameters else None,
        "peak_change_fraction": peak_change(result, row),
        "flops_forward": row.flops.forward if row.flops else None,
        "flops_backward": row.flops.backward if row.flops else None,
        "warnings": "; ".join(row.warnings) or None,
    }


def _memory(row: Row) -> dict[str, Value]:
    return {field.name: getattr(row.memory, field.name) for field in fields(Memory)}


def _time(result: Result, row: Row) -> dict[str, Value]:
    time, control = row.time, result.control
    seconds = time.step_seconds if time else None
    low, high = (time.ratio_ci if time else None) or (None, None)
    stock_low, stock_high = (time.ratio_to_stock_ci if time else None) or (None, None)
    control_low, control_high = (control.ratio_ci if control else None) or (None, None)
    split = (time.split if time else None) or {}
    return {
        "step_seconds_median": seconds.median if seconds else None,
        "step_seconds_p10": seconds.p10 if seconds else None,
        "step_seconds_p90": seconds.p90 if seconds else None,
        "forward_seconds": split.get("forward"),
        "backward_seconds": split.get("backward"),
        "optimizer_seconds": split.get("optimizer"),
        "ratio": time.ratio if time else None,
        "ratio_ci_low": low,
        "ratio_ci_high": high,
        "verdict": time.verdict if time else None,
        "ratio_to_stock": time.ratio_to_stock if time else None,
        "ratio_to_stock_ci_low": stock_low,
        "ratio_to_stock_ci_high": stock_high,
        "control_ratio": control.ratio if control else None,
        "control_ci_low": control_low,
        "control_ci_high": control_high,
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
