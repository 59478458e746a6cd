"""Results as services that track benchmarks over time read them."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from freezekit.report.cells import circumstances
from freezekit.results.figures import flops

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from freezekit.results.records import Result, Row, StepSeconds


def render_github_action(results: Sequence[Result]) -> str:
    """Return JSON for github-action-benchmark's tool "customSmallerIsBetter".

    An array of objects with name, unit, value, and where there is an interval its range; bytes,
    operations, and times as ratios to `full`, which noise and another machine move least.

    Example:
        >>> from freezekit.results.records import Memory, Result, Row, Workload
        >>> row = Row("full", memory=Memory(peak_bytes=100, peak_method="predicted"))
        >>> print(render_github_action([Result("0.1.0", Workload("timm:resnet18"), {}, (row,))]))
        [
          {
            "name": "timm:resnet18 full: peak",
            "unit": "bytes",
            "value": 100
          }
        ]
    """
    found = [
        _entry(f"{name}: {what}", unit, value, ends)
        for name, row in _rows(results)
        for what, unit, value, ends in (
            ("peak", "bytes", row.memory.peak_bytes, None),
            ("saved activations", "bytes", row.memory.saved_activations_bytes, None),
            ("forward and backward", "FLOP", flops(row), None),
            ("step time / full", "ratio", *_ratio(row)),
        )
        if value is not None
    ]
    return json.dumps(found, indent=2) + "\n"


def render_bencher(results: Sequence[Result]) -> str:
    """Return Bencher Metric Format, for `bencher run --adapter json`.

    Measures: peak-bytes, saved-activations-bytes, flops, latency (nanoseconds of a step, from the
    10th to the 90th percentile) and step-time-ratio (to `full`, with its 95 % interval).

    Example:
        >>> from freezekit.results.records import Memory, Result, Row, Workload
        >>> row = Row("full", memory=Memory(peak_bytes=100, peak_method="predicted"))
        >>> json.loads(render_bencher([Result("0.1.0", Workload("timm:resnet18"), {}, (row,))]))
        {'timm:resnet18 full': {'peak-bytes': {'value': 100}}}
    """
    return json.dumps({name: _measures(row) for name, row in _rows(results)}, indent=2) + "\n"


def _rows(results: Sequence[Result]) -> Iterator[tuple[str, Row]]:
    """Yield rows that have figures, by names that are unique.

    A name is the model and the strategy. Where several runs have it, what is special about each
    follows, whether the others failed or not, and where that is the same too, a number.
    """
    named = [
        (f"{result.workload.model} {row.label}", result, row)
        for result in results
        for row in result.rows
    ]
    runs = defaultdict(list)
    for name, result, _ in named:
        runs[name].append(_facts(result))
    seen: Counter[str] = Counter()
    for name, result, row in named:
        if row.status != "ok":
            continue
        special = [f for f in _facts(result) if not all(f in facts for facts in runs[name])]
        whole = f"{name} ({', '.join(special)})" if special else name
        seen[whole] += 1
        yield whole if seen[whole] == 1 else f"{whole} #{seen[whole]}", row


def _facts(result: Result) -> list[str]:
    work = result.workload
    return [
        *circumstances(result),
        *([f"loss {work.loss}"] if work.loss else []),
        f"seed {work.seed}",
    ]


def _ratio(row: Row) -> tuple[float | None, tuple[float, float] | None]:
    time = row.time
    if time is None or time.verdict == "baseline":  # 1 by definition
        return None, None
    return time.ratio, time.ratio_ci


def _entry(
    name: str, unit: str, value: float, ends: tuple[float, float] | None
) -> dict[str, Any]:  # Any: JSON
    entry: dict[str, Any] = {"name": name, "unit": unit, "value": value}
    if ends is not None:
        entry["range"] = f"{ends[0]:.4f} to {ends[1]:.4f}"
    return entry


def _measures(row: Row) -> dict[str, Any]:  # Any: JSON
    ratio, ends = _ratio(row)
    measures: dict[str, tuple[float | None, tuple[float, float] | None]] = {
        "peak-bytes": (row.memory.peak_bytes, None),
        "saved-activations-bytes": (row.memory.saved_activations_bytes, None),
        "flops": (flops(row), None),
        "latency": _nanoseconds(row.time.step_seconds) if row.time else (None, None),
        "step-time-ratio": (ratio, ends),
    }
    return {name: _metric(*found) for name, found in measures.items() if found[0] is not None}


def _nanoseconds(steps: StepSeconds) -> tuple[float, tuple[float, float]]:
    return steps.median * 1e9, (steps.p10 * 1e9, steps.p90 * 1e9)


def _metric(value: float | None, ends: tuple[float, float] | None) -> dict[str, float | None]:
    if ends is None:
        return {"value": value}
    return {"value": value, "lower_value": ends[0], "upper_value": ends[1]}
