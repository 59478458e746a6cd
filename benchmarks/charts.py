"""The charts of README and of the documentation, drawn from the committed results.

    python -m benchmarks.charts       # write docs/charts/*.svg

Each chart is one file that is readable in light and dark: its colours follow what the reader
prefers, and its background is its own. Nothing in it depends on the fonts of this machine.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import altair as alt
import vl_convert

from benchmarks.lean.targets import SAVED, counted
from benchmarks.timing.coverage import TRUTH, read
from freezekit.report.html import tradeoff
from freezekit.report.html.drawing import ACCENT, CONFIG, FAINT, INK, MUTED, PAPER, data
from freezekit.results.store import load

if TYPE_CHECKING:
    from collections.abc import Callable

    Data = dict[str, Any]  # Any: JSON

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
OUT = ROOT / "docs" / "charts"
STYLE = ROOT / "freezekit" / "report" / "html" / "style.css"
COLOURS = ("paper", "ink", "muted", "faint", "accent")
PLOT_WIDTH, BAND = 660, 26
# Room for axes and their titles, in pixels. It is fixed because what text needs depends on fonts.
RIGHT, ABOVE, BELOW = 24, 16, 48
FREEZEKIT, ONE_BY_ONE = "freezekit bench", "one after the other"


def main() -> None:
    """Draw all charts."""
    OUT.mkdir(exist_ok=True)
    for name, draw in CHARTS.items():
        (OUT / f"{name}.svg").write_text(draw(), encoding="utf-8")
        print(f"docs/charts/{name}.svg")


def memory_and_time() -> str:
    """Draw the chart of the report for the run that README shows."""
    (result,) = load(RESULTS / "readme-bench.json")
    drawing = tradeoff.draw(result)
    assert drawing.spec is not None
    title = "Peak memory against step time of ResNet-18 under six strategies"
    return as_svg(drawing.spec | {"width": 780}, left=64, title=title)


def lean() -> str:
    """Draw what ResNet-50 saves for the backward pass, stock and lean, by strategy."""
    rows = json.loads((RESULTS / "lean-memory.json").read_text())["rows"]
    values = [
        {
            "strategy": row["strategy"],
            "stock": round(row["stock"][SAVED] / 2**20, 2),
            "lean": round(row["lean"][SAVED] / 2**20, 2),
        }
        for row in rows
        if row["model"] == "resnet50" and counted(row)
    ]
    values.sort(key=lambda value: (value["lean"] - value["stock"], value["strategy"]))
    names = [value["strategy"] for value in values]
    y = bands("strategy", names)
    scale = alt.Scale(domain=[0, 350])
    title = "saved activations, MiB: outline stock PyTorch, filled lean"
    marks = [
        data(values)
        .mark_bar(height=17, fill=PAPER, stroke=MUTED, strokeWidth=1)
        .encode(x=alt.X("stock:Q", title=title, scale=scale, axis=alt.Axis(tickCount=8)), y=y),
        data(values)
        .mark_bar(height=11, fill=ACCENT)
        .encode(x=alt.X("lean:Q", title=title, scale=scale, axis=alt.Axis(tickCount=8)), y=y),
    ]
    said = "Saved activations of ResNet-50 by strategy, in stock PyTorch and lean"
    return as_svg(layered(marks, BAND * len(values)), left=290, title=said)


def verdicts() -> str:
    """Draw the ratios that 60 runs on a noisy machine found, by two ways to time."""
    runs = read(RESULTS / "timing-coverage.jsonl")
    values = []
    for spec, truth in TRUTH.items():
        says = "nothing changed" if truth == 1 else f"{truth - 1:.0%} slower"
        for run in runs:
            alone = run["sequential"]
            found = {
                FREEZEKIT: run["times"][spec]["ratio"],
                ONE_BY_ONE: fmean(alone[spec]) / fmean(alone["full"]),
            }
            values += [
                {"way": f"{says}: {way}", "ratio": round(ratio, 4)} for way, ratio in found.items()
            ]
    names = list(dict.fromkeys(value["way"] for value in values))
    truths = [
        {"way": name, "truth": truth}
        for name, truth in zip(names, sorted([*TRUTH.values()] * 2), strict=True)
    ]
    y = bands("way", names)
    scale, title = alt.Scale(domain=[0.6, 1.75]), "ratio of step times in each of 60 runs"
    marks = [
        data(truths)
        .mark_tick(color=INK, thickness=2, height=36)
        .encode(x=alt.X("truth:Q", title=title, scale=scale), y=y),
        data(values)
        .mark_circle(size=45, color=ACCENT, opacity=0.45)
        .encode(x=alt.X("ratio:Q", title=title, scale=scale), y=y),
    ]
    said = "Ratios of step times that 60 runs found by two ways to time; a bar marks the truth"
    return as_svg(layered(marks, 2 * BAND * len(names)), left=230, title=said)


CHARTS: dict[str, Callable[[], str]] = {
    "memory-and-time": memory_and_time,
    "lean": lean,
    "verdicts": verdicts,
}


def bands(field: str, names: list[str]) -> alt.Y:
    """Return a band for each name, in this order, with the name beside it."""
    axis = alt.Axis(labelColor=INK, labelLimit=0, grid=False, ticks=False, domain=False)
    return alt.Y(f"{field}:N", title=None, scale=alt.Scale(domain=names), axis=axis)


def layered(marks: list[alt.Chart], height: int) -> Data:
    """Return marks as one spec."""
    spec: Data = alt.layer(*marks).properties(width=PLOT_WIDTH, height=height).to_dict()
    del spec["$schema"], spec["config"]
    return spec


def as_svg(spec: Data, *, left: int, title: str) -> str:
    """Return a spec as a file of its own, with the colours of the report."""
    config = {"font": "sans-serif", "axisX": {"minExtent": 20, "maxExtent": 20}}
    whole = spec | {
        "$schema": alt.SCHEMA_URL,
        "config": CONFIG | config | {"axisY": {"minExtent": left - 30, "maxExtent": left - 30}},
        "autosize": "none",
        "padding": {"left": left, "right": RIGHT, "top": ABOVE, "bottom": BELOW},
    }
    drawn = vl_convert.vegalite_to_svg(whole)
    head = f"<title>{title}</title><style>{colours()}</style>"
    paper = f'<rect width="100%" height="100%" rx="8" fill="{PAPER}" stroke="{FAINT}"/>'
    return re.sub(r"(<svg[^>]*>)", rf"\1{head}{paper}", drawn, count=1) + "\n"


def colours() -> str:
    """Return the light and the dark colours of the report as CSS."""
    light, dark = (
        "".join(f"--{name}:{value};" for name, value in found)
        for found in (
            re.findall(rf"--({'|'.join(COLOURS)}): (#\w+);", block)
            for block in re.findall(r":root \{(.*?)\}", STYLE.read_text(), re.DOTALL)[:2]
        )
    )
    return f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"


if __name__ == "__main__":
    main()
