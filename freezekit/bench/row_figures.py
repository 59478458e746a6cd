"""From the events of measuring processes to the figures of a row; pure, no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec.structs import replace

from freezekit.errors import ModelError
from freezekit.results.records import (
    MOST,
    CacheFigures,
    Flops,
    Memory,
    Outlook,
    Parameters,
    StageFigures,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

R = TypeVar("R", Parameters, Memory, Flops, Outlook, StageFigures, CacheFigures)


def static_fields(event: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON; the fields of a row
    """Return the fields of a row that a "static" event holds.

    Raises:
        ModelError: A figure is too large for a result file.

    Example:
        >>> counted = {"total": 9, "trainable": 4, "trainable_digest": "a"}
        >>> event = {"parameters": counted, "memory": {}, "flops": None, "warnings": [],
        ...          "stages": [], "plan_digest": "b", "cache": None}
        >>> static_fields(event)["parameters"].trainable
        4
    """
    outlook = event.get("with_lean")
    return {
        "parameters": _record(event["parameters"], Parameters),
        "memory": _record(event["memory"], Memory),
        "flops": _record(event["flops"], Flops) if event["flops"] else None,
        "warnings": tuple(event["warnings"]),
        "with_lean": _record(outlook, Outlook) if outlook else None,
        "stages": tuple(_record(stage, StageFigures) for stage in event["stages"]),
        "plan_digest": event["plan_digest"],
        "cache": _record(event["cache"], CacheFigures) if event["cache"] else None,
    }


def _record(fields: Mapping[str, Any], kind: type[R]) -> R:  # Any: JSON
    """Return a record whose figures a result file can hold.

    Raises:
        ModelError: A figure is too large for that.
    """
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError:
        large = {name: v for name, v in fields.items() if isinstance(v, int) and v > MOST}
        if not large:
            raise
        raise ModelError(
            f"a step of this workload has {' and '.join(large)} of more than 64 bits: use a "
            "smaller --batch-size or --image-size"
        ) from None


def with_measured(predicted: Memory, event: Mapping[str, Any]) -> Memory:  # Any: JSON
    """Return the figures of a "memory" event, and the predicted ones that it lacks.

    Example:
        >>> event = {"memory": {"peak_bytes": 8, "predicted_peak_bytes": None}}
        >>> memory = with_measured(Memory(peak_bytes=7, predicted_peak_bytes=7), event)
        >>> memory.peak_bytes, memory.predicted_peak_bytes
        (8, 7)
    """
    known = {name: value for name, value in event["memory"].items() if value is not None}
    return replace(predicted, **known)
