"""From the events of measuring processes to the figures of a row; pure, no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from freezekit.results.records import Flops, Memory, Outlook, Parameters, StageFigures

if TYPE_CHECKING:
    from collections.abc import Mapping


def static_fields(event: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON; the fields of a row
    """Return the fields of a row that a "static" event holds.

    Example:
        >>> counted = {"total": 9, "trainable": 4, "trainable_digest": "a"}
        >>> event = {"parameters": counted, "memory": {}, "flops": None, "warnings": [],
        ...          "stages": []}
        >>> static_fields(event)["parameters"].trainable
        4
    """
    outlook = event.get("with_lean")
    return {
        "parameters": Parameters(**event["parameters"]),
        "memory": Memory(**event["memory"]),
        "flops": Flops(**event["flops"]) if event["flops"] else None,
        "warnings": tuple(event["warnings"]),
        "with_lean": Outlook(**outlook) if outlook else None,
        "stages": tuple(StageFigures(**stage) for stage in event["stages"]),
    }


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
