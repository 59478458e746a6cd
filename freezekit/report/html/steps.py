"""Raw steps in the order of the run, a band for each strategy: drift shows."""

from __future__ import annotations

from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

import altair as alt

from freezekit.report.formatting import milliseconds
from freezekit.report.html.drawing import (
    ACCENT,
    BAND_PIXELS,
    FAINT,
    INK,
    MUTED,
    Drawing,
    Key,
    as_spec,
    band_texts,
    band_y,
    data,
    most,
    numbered,
)
from freezekit.report.html.timeline import timeline
from freezekit.results.records import CONTROL, DISCARDED_STEPS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from freezekit.report.html.timeline import Step, Timeline
    from freezekit.results.records import Result

TITLE = "Steps in the order of the run"
BAND_TOP, BAND_FLOOR = 0.5, 0.94  # of a band
MARKS = {"measured": "circle", "discarded": "circle-open", "warm-up": "cross"}


def draw(result: Result) -> Drawing:
    """Return the chart of one result."""
    raw = result.raw
    if raw is None or not any(turns for rounds in raw.steps for turns in rounds):
        why = "No chart: no steps were timed."
        return Drawing("steps", TITLE, None, reading=(why,))
    told = {label for rounds in raw.steps for turns in rounds for label in turns}
    rows = [row for row in numbered(result.rows) if row.row.label in told]
    shown, cut = most(rows)
    names = {row.row.label: row.name for row in shown}
    if CONTROL in told:
        names[CONTROL] = "control: a second copy of full"
    discarded = int((result.timing_design or {}).get("discarded_steps", DISCARDED_STEPS))
    found = timeline(raw, list(names), discarded)
    middles = {
        label: median(steps)
        for label in names
        if (steps := [s.seconds for s in found.steps if s.label == label and s.kind == "measured"])
    }
    names = {label: name for label, name in names.items() if label in middles}
    if not names:
        why = "No chart: no turn was timed to its end."
        return Drawing("steps", TITLE, None, reading=(why,))
    low, high = _scale(found.steps, middles)
    kinds = [kind for kind in MARKS if any(step.kind == kind for step in found.steps)]
    return Drawing(
        "steps",
        TITLE,
        as_spec(_layers(found, names, middles, (low, high)), BAND_PIXELS * len(names) + 40),
        text=f"Step times of {len(names)} strategies in the order of the run, "
        f"{found.length} steps in {len(found.starts)} blocks. Medians: "
        + "; ".join(f"{name} {milliseconds(middles[label])} ms" for label, name in names.items())
        + ".",
        reading=(
            f"From the bottom to the top of a band: {low:.2f} to {high:.2f} times the strategy's "
            "own median, the same for all; triangles at the edges lie beyond. Thick lines are "
            "medians of blocks: where they climb or fall, the machine drifted, or what was built "
            "anew differs. Vertical lines: a new block, everything built anew.",
            *((found.thinned,) if found.thinned else ()),
            *cut,
        ),
        legend=(
            *(Key(f"step-{kind.split('-')[0]}", _kind(kind)) for kind in kinds),
            Key("step-block", "median of a block"),
        ),
    )


def _kind(kind: str) -> str:
    return {
        "measured": "measured",
        "discarded": "discarded: the first of a turn",
        "warm-up": "warm-up",
    }[kind]


def _scale(steps: Sequence[Step], middles: Mapping[str, float]) -> tuple[float, float]:
    """Return the least and most that bands show, as multiples of medians.

    Wide enough for nearly all measured steps and for a difference of a tenth.
    """
    around = [
        step.seconds / middles[step.label]
        for step in steps
        if step.kind == "measured" and step.label in middles
    ]
    if len(around) < 2:
        return 0.9, 1.1
    parts = quantiles(around, n=100, method="inclusive")
    return min(0.9, parts[0] - 0.02), min(max(1.1, parts[-1] + 0.02), 3.0)


def _layers(
    found: Timeline,
    names: Mapping[str, str],
    middles: Mapping[str, float],
    scale: tuple[float, float],
) -> list[alt.Chart]:
    band = {label: at for at, label in enumerate(names)}
    bands = len(names)
    low, high = scale

    def height(label: str, times: float) -> float:
        part = (min(max(times, low), high) - low) / (high - low)
        return round(band[label] + BAND_FLOOR - part * (BAND_FLOOR - BAND_TOP), 4)

    values: list[dict[str, Any]] = []  # Any: numbers and text
    for step in found.steps:
        if step.label in band:
            times = step.seconds / middles[step.label]
            beyond = "triangle-up" if times > high else "triangle-down" if times < low else ""
            values.append(
                {
                    "x": step.at,
                    "y": height(step.label, times),
                    "kind": step.kind,
                    "shape": beyond or ("cross" if step.kind == "warm-up" else "circle"),
                    "ms": milliseconds(step.seconds),
                    "block": step.block + 1,
                }
            )
    x = alt.X(
        "x:Q",
        title="steps since the start",
        scale=alt.Scale(domain=[-1, found.length], nice=False),
        axis=alt.Axis(grid=False, tickCount=10),
    )
    y = band_y("y", bands)
    starts = [{"x": start - 0.5} for start in found.starts[1:]]
    is_measured, is_warmup = "datum.kind == 'measured'", "datum.kind == 'warm-up'"
    return [
        data(starts).mark_rule(stroke=FAINT, strokeWidth=1).encode(x=x),
        data([{"y": height(label, 1.0)} for label in names])
        .mark_rule(stroke=FAINT, strokeDash=[2, 2])
        .encode(y=y),
        *band_texts(list(names.values()), [f"{milliseconds(middles[n])} ms" for n in names]),
        data(_block_medians(found, band, middles, height))
        .mark_rule(stroke=ACCENT, strokeWidth=3)
        .encode(x=x, x2="x2:Q", y=y),
        data(values)
        .mark_point(strokeWidth=1, opacity=1)
        .encode(
            x=x,
            y=y,
            shape=alt.Shape("shape:N", scale=None, legend=None),
            size=alt.when(is_warmup).then(alt.value(44)).otherwise(alt.value(24)),
            stroke=alt.when(is_warmup).then(alt.value("transparent")).otherwise(alt.value(INK)),
            fill=alt.when(is_measured)
            .then(alt.value(INK))
            .when(is_warmup)
            .then(alt.value(MUTED))
            .otherwise(alt.value("transparent")),
            tooltip=["kind:N", alt.Tooltip("ms:N", title="ms"), "block:N"],
        ),
    ]


def _block_medians(
    found: Timeline,
    band: Mapping[str, int],
    middles: Mapping[str, float],
    height: Callable[[str, float], float],
) -> list[dict[str, float]]:
    ends = [*found.starts[1:], found.length]
    groups: dict[tuple[str, int], list[float]] = {}
    for step in found.steps:
        if step.kind == "measured" and step.label in band:
            groups.setdefault((step.label, step.block), []).append(step.seconds)
    return [
        {
            "x": found.starts[block],
            "x2": ends[block] - 1,
            "y": height(label, median(steps) / middles[label]),
        }
        for (label, block), steps in groups.items()
    ]
