"""Results as services take them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import jsonschema

from freezekit.report.trackers import render_bencher, render_github_action

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit.bench.results import Result

# From the documentation of Bencher Metric Format.
BENCHER = {
    "type": "object",
    "additionalProperties": {
        "type": "object",
        "additionalProperties": {
            "type": "object",
            "properties": {
                name: {"type": "number"} for name in ("value", "lower_value", "upper_value")
            },
            "required": ["value"],
            "additionalProperties": False,
        },
    },
}


def test_github_action_benchmark(make_result: Callable[..., Result]) -> None:
    found = json.loads(render_github_action([make_result()]))
    assert all(isinstance(entry["value"], int | float) for entry in found)
    assert all(
        {"name", "unit", "value"} <= set(entry) <= {"name", "unit", "value", "range"}
        for entry in found
    )
    assert len({entry["name"] for entry in found}) == len(found)
    (ratio,) = (e for e in found if e["name"].endswith("head-only: step time / full"))
    assert ratio["range"] == "0.2810 to 0.2960"


def test_bencher(make_result: Callable[..., Result]) -> None:
    found = json.loads(render_bencher([make_result()]))
    jsonschema.validate(found, BENCHER)
    measures = next(m for name, m in found.items() if name.endswith(" head-only"))
    assert set(measures) == {
        "peak-bytes",
        "saved-activations-bytes",
        "flops",
        "latency",
        "step-time-ratio",
    }
    assert measures["latency"]["value"] == 0.0612 * 1e9


def test_a_failed_row_has_no_figures(make_result: Callable[..., Result]) -> None:
    rows = tuple(replace(row, status="error", error="x") for row in make_result().rows)
    for render, nothing in ((render_bencher, {}), (render_github_action, [])):
        assert json.loads(render([make_result(rows=rows)])) == nothing
