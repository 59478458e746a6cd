"""The JSON Schema of a result file, made from the records: `python -m freezekit.results.schema`."""

from __future__ import annotations

import inspect
import json
from typing import Any

from msgspec.json import schema_components

from freezekit.results import records
from freezekit.results.records import Result

_REFERENCE = "#/$defs/{name}"


def result_schema() -> dict[str, Any]:  # Any: JSON
    """Return what `freezekit bench -o FILE.json` writes, as a JSON Schema of draft 2020-12.

    Example:
        >>> sorted(result_schema()["$defs"])[:3]
        ['CacheFigures', 'Compilation', 'Control']
    """
    (run,), components = schema_components([Result], ref_template=_REFERENCE)
    for name, component in components.items():
        component["description"] = inspect.getdoc(getattr(records, name))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:freezekit:result:{records.SCHEMA_VERSION}",
        "title": "freezekit bench result",
        "description": "One run (one model, several strategies) is one object; a file of several "
        "models is an array of such objects. Bytes, seconds and fractions throughout; null is a "
        "figure that was not obtained.",
        "if": {"type": "array"},
        "then": {"minItems": 1, "items": run},
        "else": run,
        "$defs": components,
    }


if __name__ == "__main__":
    print(json.dumps(result_schema(), indent=2))
