"""Memory against step time: which strategies no other one beats in both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import altair as alt

from freezekit.report.formatting import mib, ratio
from freezekit.report.html.drawing import (
    ACCENT,
    INK,
    MUTED,
    PAPER,
    Drawing,
    Key,
    Numbered,
    as_spec,
    data,
    left_out,
    numbered,
)
from freezekit.report.html.labels import OFFSETS, place_labels
from freezekit.results.derived import baseline, mixed_peaks, stock_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.results.records import Result

TITLE = "Memory against step time"
ACROSS, HEIGHT = "step time, ratio to full", 380
ON_FRONT = (
    "The stepped line is the Pareto front, by the estimates alone: no other strategy beats one on "
    "it in time and memory."
)
FEW_LABELS = "The others are too many to be labelled; hovering tells their names."
ONE_ON_FRONT = "By the estimates, one strategy has both the least memory and the least time."
NOMINAL_WIDTH = 900  # of the plot on a wide screen, for the places of labels
WIDE = 700  # pixels of the plot from which on names fit beside the points
MOST_NAMES = 12  # points that are all named; of more, only full and those on the front are
MOST_NUMBERS = 100  # points of which the others have their number


@dataclass(frozen=True)
class Point:
    """A strategy by its two costs; of both, less is better."""

    row: Numbered
    ratio: float
    low: float
    high: float
    peak_bytes: int


def points(result: Result) -> tuple[Point, ...]:
    """Return the rows that have a ratio of step times and a peak obtained as full's was.

    Example:
        >>> from freezekit.results.records import Memory, Result, Row, StepSeconds, Time, Workload
        >>> time = Time(StepSeconds(0.1, 0.1, 0.1), 1.0, None, "baseline")
        >>> row = Row("full", memory=Memory(peak_bytes=5, peak_method="predicted"), time=time)
        >>> [(p.ratio, p.low) for p in points(Result("0.1.0", Workload("timm:a"), {}, (row,)))]
        [(1.0, 1.0)]
    """
    full = baseline(result)
    found = []
    for row in numbered(result.rows):
        time, memory = row.row.time, row.row.memory
        if time is None or time.ratio is None or memory.peak_bytes is None:
            continue
        if full is not None and memory.peak_method != full.memory.peak_method:
            continue
        low, high = time.ratio_ci or (time.ratio, time.ratio)
        found.append(Point(row, time.ratio, low, high, memory.peak_bytes))
    return tuple(found)


def front(found: Sequence[Point]) -> tuple[Point, ...]:
    """Return the points that no other one beats in one cost and matches in the other.

    From the fastest to the leanest; of equal ones all.

    Example:
        >>> def at(name, ratio, peak):
        ...     return Point(name, ratio, ratio, ratio, peak)
        >>> costs = [at("a", 1.0, 50), at("b", 0.5, 60), at("c", 0.6, 70), at("d", 0.5, 60)]
        >>> [point.row for point in front(costs)]
        ['b', 'd', 'a']
    """
    best, unbeaten = None, []
    for point in sorted(found, key=lambda p: (p.ratio, p.peak_bytes)):
        if best is None or point.peak_bytes < best.peak_bytes:
            best = point
            unbeaten.append(point)
        elif (point.ratio, point.peak_bytes) == (best.ratio, best.peak_bytes):
            unbeaten.append(point)
    return tuple(unbeaten)


def draw(result: Result) -> Drawing:
    """Return the chart of one result."""
    found = points(result)
    if not found:
        return Drawing("tradeoff", TITLE, None, reading=(_why_none(result),))
    unbeaten = front(found)
    shown = {point.row.number for point in found}
    missing = [row.name for row in numbered(result.rows) if row.number not in shown]
    best = "; ".join(_said(point) for point in unbeaten)
    shapes = {_shape(point) for point in found}
    has_pairs = any(point.row.row.lean for point in found)
    return Drawing(
        "tradeoff",
        TITLE,
        as_spec(_layers(result, found, unbeaten), HEIGHT),
        text=f"Peak memory against step time of {len(found)} strategies. On the Pareto front, from "
        f"the fastest to the leanest: {best}.",
        reading=(
            "Left is faster, down is leaner; bars are 95 % intervals. "
            + (ONE_ON_FRONT if len(unbeaten) == 1 else ON_FRONT)
            + " Numbers are those of the table.",
            *((FEW_LABELS,) if len(found) > MOST_NUMBERS else ()),
            *left_out(missing, "no step time or peak" + _other_peaks(result)),
        ),
        legend=(
            Key("point-front", "on the front"),
            Key("point-other", "behind it"),
            *((Key("point-lean", "lean (a diamond)"),) * ("diamond" in shapes)),
            *((Key("point-compiled", "compiled (a square)"),) * ("square" in shapes)),
            *((Key("point-both", "lean and compiled (a triangle)"),) * ("triangle-up" in shapes)),
            *((Key("pair", "stock to lean"),) * has_pairs),
        ),
    )


def _why_none(result: Result) -> str:
    if all(row.time is None for row in result.rows):
        return "No chart: the result has no step times."
    return "No chart: no strategy has both a peak and a ratio of step times."


def _other_peaks(result: Result) -> str:
    return ", or a peak obtained otherwise than that of full" if mixed_peaks(result) else ""


def _said(point: Point) -> str:
    return f"{point.row.name}, {_times(point)} of full's step time, {mib(point.peak_bytes)} MiB"


def _layers(result: Result, found: Sequence[Point], unbeaten: Sequence[Point]) -> list[alt.Chart]:
    across = _domain([*(point.low for point in found), *(point.high for point in found)])
    up = _domain([_height(point) for point in found])
    scale = alt.Scale(domain=across, nice=False)
    axis = alt.Axis(tickCount=10)
    x, low = (alt.X(f"{name}:Q", title=ACROSS, scale=scale, axis=axis) for name in ("x", "low"))
    y = alt.Y(
        "y:Q",
        title="peak, MiB",
        scale=alt.Scale(domain=up, nice=False),
        axis=alt.Axis(tickCount=6),
    )
    values = _values(found, unbeaten, across, up)
    marks = [
        data([{"x": point.ratio, "y": _height(point)} for point in unbeaten])
        .mark_line(interpolate="step-after", stroke=ACCENT, strokeWidth=1.5, strokeDash=[5, 3])
        .encode(x=x, y=y),
        data(_pairs(result, found))
        .mark_rule(stroke=MUTED, strokeDash=[1, 3])
        .encode(x=x, y=y, x2="x2:Q", y2="y2:Q"),
        data(values).mark_rule(stroke=MUTED, strokeWidth=1.5).encode(x=low, x2="high:Q", y=y),
        data(values)
        .mark_point(size=80, strokeWidth=2, opacity=1, stroke=INK)
        .encode(
            x=x,
            y=y,
            shape=alt.Shape("shape:N", scale=None, legend=None),
            fill=alt.when("datum.front").then(alt.value(ACCENT)).otherwise(alt.value(PAPER)),
            tooltip=[alt.Tooltip(f"{field}:N") for field in ("strategy", "peak", "time")],
        ),
    ]
    for place in dict.fromkeys(value["place"] for value in values):
        offset = OFFSETS[place]
        marks.append(
            data([value for value in values if value["place"] == place and value["name"]])
            .transform_calculate(text=f"width > {WIDE} ? datum.name : datum.number")
            .mark_text(align=offset.align, baseline="middle", dx=offset.dx, dy=offset.dy)
            .encode(x=x, y=y, text=alt.Text("text:N"))
        )
    return marks


def _values(
    found: Sequence[Point],
    unbeaten: Sequence[Point],
    across: tuple[float, float],
    up: tuple[float, float],
) -> list[dict[str, Any]]:  # Any: numbers and text
    on_front = {point.row.number for point in unbeaten}
    told = [point.row.number in on_front or point.row.number == 1 for point in found]
    numbers = [
        str(point.row.number) if known or len(found) <= MOST_NUMBERS else ""
        for point, known in zip(found, told, strict=True)
    ]
    names = [
        f"{number} {point.row.name}" if known or len(found) <= MOST_NAMES else number
        for point, number, known in zip(found, numbers, told, strict=True)
    ]

    def pixels(value: float) -> float:
        return (value - across[0]) / (across[1] - across[0]) * NOMINAL_WIDTH

    places = place_labels(
        [(pixels(p.ratio), (up[1] - _height(p)) / (up[1] - up[0]) * HEIGHT) for p in found],
        names,
        numbers,
        [(pixels(p.low), pixels(p.high)) for p in found],
        (NOMINAL_WIDTH, HEIGHT),
        first=[i for i, point in enumerate(found) if point.row.number in on_front],
    )
    return [
        {
            "x": point.ratio,
            "y": _height(point),
            "low": point.low,
            "high": point.high,
            "number": number,
            "name": name if whole else number,
            "strategy": point.row.name,
            "peak": f"{mib(point.peak_bytes)} MiB",
            "time": _times(point),
            "shape": _shape(point),
            "front": int(point.row.number in on_front),
            "place": place,
        }
        for point, number, name, (place, whole) in zip(found, numbers, names, places, strict=True)
    ]


def _shape(point: Point) -> str:
    row = point.row.row
    if row.compiled:
        return "triangle-up" if row.lean else "square"
    return "diamond" if row.lean else "circle"


def _pairs(result: Result, found: Sequence[Point]) -> list[dict[str, float]]:
    """Return a line from each stock point to the lean one of the same strategy."""
    by_label = {point.row.row.label: point for point in found}
    pairs = []
    for point in found:
        stock = stock_of(result, point.row.row)
        before = by_label.get(stock.label) if stock else None
        if before is not None:
            pairs.append(
                {"x": before.ratio, "y": _height(before), "x2": point.ratio, "y2": _height(point)}
            )
    return pairs


def _height(point: Point) -> float:
    return round(point.peak_bytes / 2**20, 4)


def _domain(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    pad = 0.1 * (high - low) or 0.1 * high or 1.0
    return max(0.0, low - pad), high + pad


def _times(point: Point) -> str:
    time = point.row.row.time
    assert time is not None
    return ratio(time.ratio, time.ratio_ci, time.verdict)
