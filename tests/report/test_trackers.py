"""Results as services take them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import jsonschema
from msgspec.structs import replace

from freezekit.report.trackers import render_bencher, render_github_action

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit.results.records import Result

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


def test_names_of_several_runs_tell_what_differs(make_result: Callable[..., Result]) -> None:
    first = make_result()
    work = replace(first.workload, image_size=64, input_shape=(8, 3, 64, 64))
    shape = make_result(workload=work, rows=first.rows[:1])
    seed = make_result(workload=replace(work, seed=1), rows=first.rows[:1])
    amp = make_result(workload=replace(work, seed=1, amp="bfloat16"), rows=first.rows[:2])
    results = [first, shape, seed, amp]
    names = list(json.loads(render_bencher(results)))
    assert len(names) == sum(len(result.rows) for result in results)
    assert names[0] == "torchvision:resnet18 full (8x3x128x128, seed 0)"
    assert names[1] == "torchvision:resnet18 head-only (8x3x128x128, seed 0)"
    assert names[2] == "torchvision:resnet18 by-name:contains=bn", "it is in one run alone"
    assert names[-4:] == [
        "torchvision:resnet18 full (8x3x64x64, seed 0)",
        "torchvision:resnet18 full (8x3x64x64, seed 1)",
        "torchvision:resnet18 full (8x3x64x64, amp bfloat16, seed 1)",
        "torchvision:resnet18 head-only (8x3x64x64, amp bfloat16, seed 1)",
    ]
    tracked = [entry["name"] for entry in json.loads(render_github_action(results))]
    assert len(set(tracked)) == len(tracked)


def test_the_same_run_twice_is_numbered(make_result: Callable[..., Result]) -> None:
    rows = make_result().rows
    runs = [make_result(rows=rows[:2]), make_result(rows=(rows[0], rows[2]))]  # as --resume does
    assert list(json.loads(render_bencher(runs))) == [
        "torchvision:resnet18 full",
        "torchvision:resnet18 head-only",
        "torchvision:resnet18 full #2",
        "torchvision:resnet18 by-name:contains=bn",
    ]


def test_a_row_keeps_its_name_where_another_run_fails(make_result: Callable[..., Result]) -> None:
    full = make_result().rows[0]
    failed = replace(full, status="oom", error="x")
    amp = replace(make_result().workload, amp="bfloat16")
    again = [make_result(rows=(row,)) for row in (failed, full)]
    assert list(json.loads(render_bencher(again))) == ["torchvision:resnet18 full"]
    runs = [make_result(rows=(failed,)), make_result(workload=amp, rows=(full,))]
    assert list(json.loads(render_bencher(runs))) == ["torchvision:resnet18 full (amp bfloat16)"]


def test_a_failed_row_has_no_figures(make_result: Callable[..., Result]) -> None:
    rows = tuple(replace(row, status="error", error="x") for row in make_result().rows)
    for render, nothing in ((render_bencher, {}), (render_github_action, [])):
        assert json.loads(render([make_result(rows=rows)])) == nothing
