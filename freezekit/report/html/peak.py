"""What the memory at the peak is made of, strategy by strategy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import altair as alt

from freezekit.report.formatting import MISSING, mib
from freezekit.report.html.drawing import (
    BAND_PIXELS,
    BOTTOM,
    PAPER,
    TOP,
    Drawing,
    Grid,
    Key,
    Numbered,
    as_spec,
    band_texts,
    band_y,
    data,
    hatches,
    left_out,
    most,
    numbered,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.results.records import Memory, Result

TITLE = "Memory at the peak"
CATEGORIES = {
    "parameters": "parameters",
    "buffers": "buffers",
    "inputs": "inputs",
    "optimizer": "optimizer state",
    "gradients": "gradients",
    "saved": "saved activations",
    "training": "gradients and saved activations, not told apart",
    "workspace": "workspace",
    "transient": "transient: whatever else is alive at that moment",
}


@dataclass(frozen=True)
class Parts:
    """Bytes of a peak by category.

    Attributes:
        bytes: By category, those that are there alone, in the order of `CATEGORIES`.
        exact: Whether gradients and saved activations were counted at the moment of the peak;
            else they are taken to be all there, as far as the peak has room for them.
        over_bytes: By how much the categories exceed the peak; 0 but for a workspace below zero.
    """

    bytes: dict[str, int]
    exact: bool
    over_bytes: int = 0


def parts(memory: Memory) -> Parts | None:
    """Divide a peak into categories that add up to it; None where a figure is missing.

    Parameters, buffers, inputs and optimizer state are there throughout a step, and the workspace
    is what the allocator's peak exceeds that of storages by. Files of newer versions tell how much
    of gradients and saved activations is alive at the peak. Of older ones only their full sizes are
    known, which need not coincide: where both do not fit, they are one category.

    Example:
        >>> from freezekit.results.records import Memory
        >>> known = Memory(peak_bytes=100, parameters_bytes=20, buffers_bytes=0, inputs_bytes=5,
        ...                optimizer_bytes=20, gradients_bytes=20, saved_activations_bytes=40,
        ...                gradients_at_peak_bytes=5, saved_at_peak_bytes=38)
        >>> found = parts(known)
        >>> found.bytes["gradients"], found.bytes["transient"], sum(found.bytes.values())
        (5, 12, 100)
    """
    always = {
        "parameters": memory.parameters_bytes,
        "buffers": memory.buffers_bytes,
        "inputs": memory.inputs_bytes,
        "optimizer": memory.optimizer_bytes,
    }
    constant = {name: count for name, count in always.items() if count is not None}
    if memory.peak_bytes is None or len(constant) < len(always):
        return None
    workspace = {"workspace": max(0, memory.workspace_bytes or 0)}
    room = memory.peak_bytes - sum(constant.values()) - workspace["workspace"]
    moment = (memory.gradients_at_peak_bytes, memory.saved_at_peak_bytes)
    whole = (memory.gradients_bytes, memory.saved_activations_bytes)
    exact = None not in moment
    gradients, saved = moment if exact else whole
    if gradients is None or saved is None:
        return None
    if exact or gradients + saved <= room:
        training = {"gradients": gradients, "saved": saved}
    else:
        training = {"training": max(0, room)}
    transient = room - sum(training.values())
    found = {**constant, **training, **workspace, "transient": max(0, transient)}
    ordered = {name: found[name] for name in CATEGORIES if found.get(name)}
    return Parts(ordered, exact, over_bytes=max(0, -transient))


def draw(result: Result) -> Drawing:
    """Return the chart of one result."""
    rows = numbered(result.rows)
    known = [(row, found) for row in rows if (found := parts(row.row.memory)) is not None]
    if not known:
        why = "No chart: no strategy has a peak together with its categories."
        return Drawing("peak", TITLE, None, reading=(why,))
    shown, cut = most([row for row, _ in known])
    divided = [found for _, found in known][: len(shown)]
    categories = [name for name in CATEGORIES if any(name in found.bytes for found in divided)]
    missing = [row.name for row in rows if row.number not in {r.number for r, _ in known}]
    return Drawing(
        "peak",
        TITLE,
        as_spec(_layers(shown, divided, categories), BAND_PIXELS * len(shown) + 40),
        text=f"{TITLE} of {len(shown)} strategies, stacked by category. {_extremes(shown)} "
        "The table under the chart has the figures.",
        reading=(
            *_how(shown, divided),
            *cut,
            *left_out(missing, "no peak or no categories"),
        ),
        legend=tuple(Key(f"fill-{name}", CATEGORIES[name]) for name in categories),
        grid=_grid(shown, divided, categories),
    )


def _how(shown: Sequence[Numbered], divided: Sequence[Parts]) -> tuple[str, ...]:
    said = ["Each bar adds up to the peak of a step."]
    if all(found.exact for found in divided):
        said.append(
            "Gradients and saved activations are counted at that very moment; at other times of a "
            "step there may be more of them, and “saved” in the table is all that forward keeps."
        )
    else:
        inexact = [row for row, found in zip(shown, divided, strict=True) if not found.exact]
        compiled = " of compiled rows" if all(row.row.compiled for row in inexact) else ""
        said.append(
            f"The file does not tell what of gradients and saved activations{compiled} is alive at "
            "the peak. They are drawn in full where the peak has room for both, which makes the "
            "transient part the least that it can be, and else as one."
        )
    over = max((found.over_bytes for found in divided), default=0)
    if over:
        said.append(
            f"Up to {mib(over)} MiB of a bar lie beyond the peak that the allocator saw: a traced "
            "step makes a new tensor where another one adds two gradients in place."
        )
    return tuple(said)


def _extremes(shown: Sequence[Numbered]) -> str:
    by_peak = sorted(shown, key=lambda row: row.row.memory.peak_bytes or 0)
    least, largest = by_peak[0], by_peak[-1]
    low, high = (mib(row.row.memory.peak_bytes) for row in (least, largest))
    return f"Largest: {largest.name}, {high} MiB; least: {least.name}, {low} MiB."


def _layers(
    shown: Sequence[Numbered], divided: Sequence[Parts], categories: Sequence[str]
) -> list[alt.Chart]:
    values = []
    for at, (row, found) in enumerate(zip(shown, divided, strict=True)):
        start = 0
        for name, count in found.bytes.items():
            values.append(
                {
                    "y": at + TOP,
                    "y2": at + BOTTOM,
                    "x": round(start / 2**20, 4),
                    "x2": round((start + count) / 2**20, 4),
                    "part": name,
                    "category": CATEGORIES[name].partition(":")[0],
                    "size": f"{mib(count)} MiB",
                    "strategy": row.name,
                }
            )
            start += count
    x = alt.X(
        "x:Q", title="MiB", scale=alt.Scale(zero=True, nice=False), axis=alt.Axis(tickCount=8)
    )
    bars = (
        data(values)
        .mark_rect(stroke=PAPER, strokeWidth=1)
        .encode(
            x=x,
            x2="x2:Q",
            y=band_y("y", len(shown)),
            y2="y2:Q",
            fill=alt.Fill("part:N", scale=hatches(categories), legend=None),
            tooltip=["strategy:N", "category:N", "size:N"],
        )
    )
    figures = [f"{mib(row.row.memory.peak_bytes)} MiB" for row in shown]
    return [*band_texts([row.name for row in shown], figures), bars]


def _grid(shown: Sequence[Numbered], divided: Sequence[Parts], categories: Sequence[str]) -> Grid:
    lines = (
        (
            row.name,
            *(mib(found.bytes[name]) if name in found.bytes else MISSING for name in categories),
            mib(row.row.memory.peak_bytes),
        )
        for row, found in zip(shown, divided, strict=True)
    )
    heads = (f"{CATEGORIES[name].partition(':')[0]}, MiB" for name in categories)
    return Grid(("strategy", *heads, "peak, MiB"), tuple(lines))
