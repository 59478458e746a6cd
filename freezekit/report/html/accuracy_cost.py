"""Accuracy against cost: which candidates give most for their time, work or memory."""

from __future__ import annotations

from itertools import pairwise
from math import log
from typing import TYPE_CHECKING, Any

import altair as alt

from freezekit.report.formatting import number
from freezekit.report.html.cost_points import COSTS, Cost, Point, cost_points, stepped
from freezekit.report.html.drawing import (
    ACCENT,
    INK,
    MUTED,
    PAPER,
    Drawing,
    Key,
    as_spec,
    data,
    left_out,
)
from freezekit.report.html.labels import OFFSETS, place_labels
from freezekit.report.sweep_cells import estimate
from freezekit.sweep.figures import is_share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.sweep.records import Estimate, Sweep

HEIGHT, NOMINAL_WIDTH = 380, 900  # of the plot on a wide screen, for the places of labels
WIDE = 700  # pixels of the plot from which on names fit beside the points
READING = (
    "Up is better, left is cheaper; bars are 95 % intervals, and the scale of costs is "
    "logarithmic. Intervals of two candidates that overlap do not show that they are equal: the "
    "table has the paired difference to full, which is known better. The stepped line joins the "
    "candidates that no other one beats in accuracy at less of this cost, by the means alone. "
    "Filled points are on the front of GFLOP and memory together. Numbers are those of the table."
)


def draw(sweep: Sweep) -> Drawing:
    """Return the chart of a sweep, with a choice between costs."""
    metric = sweep.settings.metric.replace("_", " ")
    title = f"{metric.capitalize()} against cost"
    shown = {cost: found for cost in COSTS if (found := cost_points(sweep, cost))}
    if not shown:
        why = "No chart: no candidate has both its figure and a cost."
        return Drawing("cost", title, None, reading=(why,))
    some = {point.number for found in shown.values() for point in found}
    missing = [row.label for at, row in enumerate(sweep.rows, 1) if at not in some]
    share = is_share(sweep.settings.metric)
    best = "; ".join(
        f"{point.name} {estimate(point.metric, share)}{' %' * share}"
        for point in next(iter(shown.values()))
        if point.row.on_front
    )
    return Drawing(
        "cost",
        title,
        as_spec(_layers(sweep, shown), HEIGHT, by=next(iter(shown)).name),
        text=f"{metric.capitalize()} of {len(some)} candidates against what they cost. On the "
        f"front: {best or 'none is known yet'}.",
        reading=(READING, *left_out(missing, "no figure at the end of a training")),
        legend=(Key("point-front", "on the front"), Key("point-other", "behind it")),
        switch=tuple((cost.name, cost.label) for cost in shown),
        switch_title="Cost",
    )


def _layers(sweep: Sweep, shown: dict[Cost, tuple[Point, ...]]) -> list[alt.Chart]:
    share, better = is_share(sweep.settings.metric), sweep.settings.higher_is_better
    values = [each for cost, found in shown.items() for each in _values(cost, found, share, better)]
    lines = [
        {"by": cost.name, "x": point.x, "y": _y(point.metric.value, share)}
        for cost, found in shown.items()
        for point in stepped(found, better)
    ]
    titles = [{"by": cost.name, "text": cost.axis} for cost in shown]
    name = sweep.settings.metric.replace("_", " ")
    x = alt.X(
        "x:Q",
        title=None,
        scale=alt.Scale(type="log", nice=False, padding=24),
        axis=alt.Axis(tickCount=6, format="~r", labelOverlap=True),
    )
    x_low = alt.X("x_low:Q", title=None, scale=alt.Scale(type="log", nice=False, padding=24))
    scale = alt.Scale(zero=False, nice=False, padding=16)
    axis_title = f"{name}, %" if share else name
    y, low = (alt.Y(f"{field}:Q", title=axis_title, scale=scale) for field in ("y", "low"))
    is_shown = "datum.by == by"
    marks = [
        data(titles)
        .transform_filter(is_shown)
        .mark_text(align="right", baseline="top", fontWeight=500)
        .encode(x=alt.value("width"), y=alt.value(HEIGHT + 26), text="text:N"),
        data(lines)
        .transform_filter(is_shown)
        .mark_line(interpolate="step-after", stroke=ACCENT, strokeWidth=1.5, strokeDash=[5, 3])
        .encode(x=x, y=y),
        data(values)
        .transform_filter(is_shown)
        .mark_rule(stroke=MUTED, strokeWidth=1.5)
        .encode(x=x, y=low, y2="high:Q"),
        data(values)
        .transform_filter(is_shown)
        .mark_rule(stroke=MUTED, strokeWidth=1.5)
        .encode(x=x_low, x2="x_high:Q", y=y),
        data(values)
        .transform_filter(is_shown)
        .mark_point(size=80, strokeWidth=2, opacity=1, stroke=INK, shape="circle")
        .encode(
            x=x,
            y=y,
            fill=alt.when("datum.front").then(alt.value(ACCENT)).otherwise(alt.value(PAPER)),
            tooltip=[alt.Tooltip(f"{field}:N") for field in ("candidate", "figure", "cost")],
        ),
    ]
    for place in dict.fromkeys(value["place"] for value in values):
        offset = OFFSETS[place]
        marks.append(
            data(_placed(values, place))
            .transform_filter(is_shown)
            .transform_calculate(text=f"width > {WIDE} ? datum.name : datum.number")
            .mark_text(align=offset.align, baseline="middle", dx=offset.dx, dy=offset.dy)
            .encode(x=x, y=y, text=alt.Text("text:N"))
        )
    return marks


def _placed(values: Sequence[dict[str, Any]], place: str) -> list[dict[str, Any]]:  # Any: as above
    """Return the labels of a place, and a blank one for each cost: no scale is without data."""
    first = {value["by"]: {**value, "name": " ", "number": " "} for value in values}
    return [*first.values(), *(value for value in values if value["place"] == place)]


def _values(
    cost: Cost, found: Sequence[Point], share: bool, higher_is_better: bool
) -> list[dict[str, Any]]:  # Any: numbers and text
    across = [log(p.x_low) for p in found], [log(p.x_high) for p in found]
    low, high = min(across[0]), max(across[1])
    heights = [_ends(p.metric) for p in found]
    down, up = min(end[0] for end in heights), max(end[1] for end in heights)

    def at_x(value: float) -> float:
        return 24 + (log(value) - low) / ((high - low) or 1.0) * (NOMINAL_WIDTH - 48)

    def at_y(value: float) -> float:
        return 16 + (up - value) / ((up - down) or 1.0) * (HEIGHT - 32)

    line = stepped(found, higher_is_better)
    ends = {point.number: point.x for point in found}
    ends |= {one.number: after.x for one, after in pairwise(line)}  # to where its step goes
    names = [f"{point.number} {point.name}" for point in found]
    numbers = [str(point.number) for point in found]
    places = place_labels(
        [(at_x(point.x), at_y(point.metric.value)) for point in found],
        names,
        numbers,
        [(at_x(point.x_low), at_x(max(point.x_high, ends[point.number]))) for point in found],
        (NOMINAL_WIDTH, HEIGHT),
        first=[at for at, point in enumerate(found) if point.row.on_front],
    )
    return [
        {
            "by": cost.name,
            "x": point.x,
            "x_low": point.x_low,
            "x_high": point.x_high,
            "y": _y(point.metric.value, share),
            "low": _y(_ends(point.metric)[0], share),
            "high": _y(_ends(point.metric)[1], share),
            "number": number_text,
            "name": name if whole else number_text,
            "candidate": point.name,
            "figure": estimate(point.metric, share) + (" %" if share else ""),
            "cost": f"{number(point.x)} ({cost.axis})",
            "front": int(bool(point.row.on_front)),
            "place": place,
        }
        for point, name, number_text, (place, whole) in zip(
            found, names, numbers, places, strict=True
        )
    ]


def _ends(metric: Estimate) -> tuple[float, float]:
    if metric.low is None or metric.high is None:
        return metric.value, metric.value
    return metric.low, metric.high


def _y(value: float, share: bool) -> float:
    return 100 * value if share else value
