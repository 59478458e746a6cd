"""Results as services that track benchmarks over time read them."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from freezekit.report.cells import circumstances
from freezekit.results.figures import FIGURES
from freezekit.results.variant import BASELINE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from freezekit.results.figures import Figure, Unit, Value
    from freezekit.results.records import Result, Row

NANOSECONDS = 1_000_000_000  # in a second: the unit of Bencher's "latency"
_UNITS: dict[Unit, str] = {"operations": "FLOP"}


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
        _entry(f"{name}: {figure.tracked.title}", figure, result, row)
        for name, result, row in _rows(results)
        for figure in _tracked(result, row)
        if figure.tracked and figure.tracked.title
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
    measures = {name: _measures(result, row) for name, result, row in _rows(results)}
    return json.dumps(measures, indent=2) + "\n"


def _rows(results: Sequence[Result]) -> Iterator[tuple[str, Result, Row]]:
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
        yield whole if seen[whole] == 1 else f"{whole} #{seen[whole]}", result, row


def _facts(result: Result) -> list[str]:
    work = result.workload
    return [
        *circumstances(result),
        *([f"loss {work.loss}"] if work.loss else []),
        f"seed {work.seed}",
    ]


def _tracked(result: Result, row: Row) -> Iterator[Figure]:
    """Yield the figures that services get of a row, where it has them."""
    for figure in FIGURES:
        by_definition = figure.unit == "ratio" and row.variant == BASELINE  # always 1
        if figure.tracked and not by_definition and figure.read(result, row) is not None:
            yield figure


def _entry(name: str, figure: Figure, result: Result, row: Row) -> dict[str, Any]:  # Any: JSON
    entry: dict[str, Any] = {
        "name": name,
        "unit": _UNITS.get(figure.unit, figure.unit),
        "value": figure.read(result, row),
    }
    if figure.interval and (ends := figure.interval(row)):
        entry["range"] = f"{ends[0]:.4f} to {ends[1]:.4f}"
    return entry


def _measures(result: Result, row: Row) -> dict[str, Any]:  # Any: JSON
    return {
        figure.tracked.slug: _metric(figure, result, row)
        for figure in _tracked(result, row)
        if figure.tracked and figure.tracked.slug
    }


def _metric(figure: Figure, result: Result, row: Row) -> dict[str, Value | None]:
    scale = NANOSECONDS if figure.unit == "seconds" else 1
    value = figure.read(result, row)
    assert isinstance(value, (int, float))
    metric: dict[str, Value | None] = {"value": value * scale}
    if figure.interval and (ends := figure.interval(row)):
        metric |= {"lower_value": ends[0] * scale, "upper_value": ends[1] * scale}
    return metric
