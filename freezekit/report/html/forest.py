"""Ratios of step times with their intervals, over the band of noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt

from freezekit.report.formatting import ratio, share
from freezekit.report.html.drawing import (
    ACCENT,
    BAND_PIXELS,
    INK,
    PAPER,
    Drawing,
    Key,
    Numbered,
    as_spec,
    band_texts,
    band_y,
    data,
    left_out,
    most,
    numbered,
)
from freezekit.results.derived import noise_floor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.results.records import Result

TITLE = "Step time against full"
TOP, MIDDLE, BOTTOM = 0.42, 0.68, 0.94  # of a band
TITLE_OF_X = "step time, ratio to full"
SHAPES = {
    "baseline": "square",
    "faster": "triangle-left",
    "slower": "triangle-right",
    "no difference shown": "circle",
}


def draw(result: Result) -> Drawing:
    """Return the chart of one result."""
    rows = numbered(result.rows)
    timed = [row for row in rows if row.row.time is not None and row.row.time.ratio is not None]
    if not timed:
        why = "No chart: the result has no ratios of step times."
        return Drawing("forest", TITLE, None, reading=(why,))
    shown, cut = most(timed)
    floor = noise_floor(result)
    missing = [row.name for row in rows if row not in timed]
    said = "; ".join(f"{row.name} {_times(row)} {_verdict(row)}" for row in shown)
    return Drawing(
        "forest",
        TITLE,
        as_spec(_layers(shown, floor), BAND_PIXELS * len(shown) + 40),
        text=f"Step times as ratios to that of full, with 95 % intervals: {said}.",
        reading=(
            _band(floor),
            *(() if _has_intervals(shown) else ("Without an interval: timed in one block only.",)),
            *cut,
            *left_out(missing, "no ratio of step times"),
        ),
        legend=(
            *(
                Key(f"verdict-{name.split()[0]}", name)
                for name in SHAPES
                if any(_verdict(row) == name for row in shown)
            ),
            *((Key("noise", "noise of two copies of full"),) if floor is not None else ()),
        ),
    )


def _band(floor: float | None) -> str:
    how = "A point is the ratio of paired turns, a bar its 95 % interval; left of 1 is faster. "
    if floor is None:
        return f"{how}No band is drawn, because the noise floor is unknown."
    return (
        f"{how}The band, from {1 / (1 + floor):.3f} to {1 + floor:.3f}, is the noise floor of "
        f"{share(floor)}. Two copies of `full` may differ by this much in this run, so no smaller "
        "difference is shown as one."
    )


def _has_intervals(shown: Sequence[Numbered]) -> bool:
    return all(row.row.time is not None and row.row.time.ratio_ci for row in shown)


def _verdict(row: Numbered) -> str:
    return (row.row.time.verdict if row.row.time else None) or "no difference shown"


def _times(row: Numbered) -> str:
    time = row.row.time
    assert time is not None
    return ratio(time.ratio, time.ratio_ci, time.verdict)


def _layers(shown: Sequence[Numbered], floor: float | None) -> list[alt.Chart]:
    bands = len(shown)
    values: list[dict[str, Any]] = []  # Any: numbers and text
    for at, row in enumerate(shown):
        time = row.row.time
        assert time is not None
        assert time.ratio is not None
        low, high = time.ratio_ci or (time.ratio, time.ratio)
        values.append(
            {
                "y": at + MIDDLE,
                "ratio": time.ratio,
                "low": low,
                "high": high,
                "shape": SHAPES[_verdict(row)],
                "claimed": int(_verdict(row) in ("faster", "slower")),
                "strategy": row.name,
                "interval": _times(row),
                "verdict": _verdict(row),
            }
        )
    ends = [value[end] for value in values for end in ("low", "high")]
    edges = [] if floor is None else [1 / (1 + floor), 1 + floor]
    low, high = min([*ends, *edges, 1.0]), max([*ends, *edges, 1.0])
    pad = 0.04 * (high - low) or 0.05
    scale = alt.Scale(domain=[max(0.0, low - pad), high + pad], nice=False)
    x, start, middle = (
        alt.X(f"{name}:Q", title=TITLE_OF_X, scale=scale, axis=alt.Axis(grid=False, tickCount=10))
        for name in ("x", "low", "ratio")
    )
    y = band_y("y", bands)
    room = [{"y": at + TOP, "y2": at + BOTTOM} for at in range(bands)]
    noise = [{"x": edges[0], "x2": edges[1], **part} for part in room] if edges else []
    ones = [{"x": 1, **part} for part in room]
    texts = band_texts(
        [row.name for row in shown],
        [f"{_times(row)}  {_verdict(row)}" for row in shown],
        [_times(row) for row in shown],
        room=(260, 125),
    )
    return [
        data(noise).mark_rect(fill="url(#noise)").encode(x=x, x2="x2:Q", y=y, y2="y2:Q"),
        data(ones).mark_rule(stroke=INK, strokeWidth=1).encode(x=x, y=y, y2="y2:Q"),
        *texts,
        data(values).mark_rule(stroke=INK, strokeWidth=2).encode(x=start, x2="high:Q", y=y),
        data(values)
        .mark_point(size=110, strokeWidth=2, opacity=1, stroke=INK)
        .encode(
            x=middle,
            y=y,
            shape=alt.Shape("shape:N", scale=None, legend=None),
            fill=alt.when("datum.claimed").then(alt.value(ACCENT)).otherwise(alt.value(PAPER)),
            tooltip=["strategy:N", "interval:N", "verdict:N"],
        ),
    ]
