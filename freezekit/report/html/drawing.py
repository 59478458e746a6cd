"""What a chart of the report is made of, and what all of them share.

Colours are CSS variables and hatches are SVG patterns of the page, so that charts follow its light
and dark themes, and print, without being drawn anew.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import altair as alt

from freezekit.report.formatting import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.results.records import Row

INK, MUTED, FAINT, ACCENT, PAPER = (
    f"var(--{name})" for name in ("ink", "muted", "faint", "accent", "paper")
)
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
MOST_BANDS = 60  # rows in a chart with a band for each; the table has all
BAND_PIXELS = 46
NARROW_PIXELS = 520  # of a plot, below which texts are short
NAME_AT, TOP, BOTTOM = 0.24, 0.46, 0.86  # of a band, from above: the name, and what is drawn

CONFIG: dict[str, Any] = {  # Any: Vega-Lite's own
    "font": FONT,
    "background": None,
    "view": {"stroke": None},
    "axis": {
        "labelColor": MUTED,
        "titleColor": INK,
        "domainColor": FAINT,
        "tickColor": FAINT,
        "gridColor": FAINT,
        "gridOpacity": 0.6,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": 500,
        "titlePadding": 8,
    },
    "text": {"fill": INK, "fontSize": 12},
    "rule": {"stroke": MUTED},
}


@dataclass(frozen=True)
class Key:
    """An entry of a legend: a mark or a fill of the page, by its name, and what it stands for."""

    swatch: str
    text: str


@dataclass(frozen=True)
class Grid:
    """What a chart shows, as a table: its heading cells, and a heading and cells for each line."""

    heads: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Drawing:
    """One chart, or why there is none.

    Attributes:
        name: Short, for identifiers.
        title: Its heading.
        spec: For Vega-Lite; None where there is nothing to show.
        text: What a person who does not see it is told.
        reading: Sentences under it: how to read it, what is left out; where there is no chart, why.
        legend: What marks and fills stand for.
        grid: The same figures as a table, where the table of the result lacks them.
        switch: Values and labels of the signal `by` between which the reader can choose.
        switch_title: What they are, such as "Widths by".
    """

    name: str
    title: str
    spec: dict[str, Any] | None  # Any: Vega-Lite's own
    text: str = ""
    reading: tuple[str, ...] = ()
    legend: tuple[Key, ...] = ()
    grid: Grid | None = None
    switch: tuple[tuple[str, str], ...] = ()
    switch_title: str = "Widths by"


@dataclass(frozen=True)
class Numbered:
    """A row with its number in the table, from 1."""

    number: int
    row: Row

    @property
    def name(self) -> str:
        """Its label, fit to be shown."""
        return plain(self.row.label).replace("\n", " ")


def numbered(rows: Sequence[Row]) -> tuple[Numbered, ...]:
    """Return rows with their numbers.

    Example:
        >>> from freezekit.results.records import Row
        >>> [(row.number, row.name) for row in numbered([Row("full"), Row("head-only")])]
        [(1, 'full'), (2, 'head-only')]
    """
    return tuple(Numbered(number, row) for number, row in enumerate(rows, 1))


def as_spec(
    layers: Sequence[alt.Chart], height: int, **params: str
) -> dict[str, Any]:  # Any: Vega-Lite's own
    """Return layers as one spec, as wide as its place in the page, with these signals."""
    chart = alt.layer(*layers).properties(
        width="container",
        height=height,
        autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),
    )
    for name, value in params.items():
        chart = chart.add_params(alt.param(name=name, value=value))
    spec = chart.to_dict()
    del spec["$schema"], spec["config"]  # the page has one for all
    return spec


def data(values: Sequence[dict[str, Any]]) -> alt.Chart:  # Any: numbers and text
    """Return a chart of these values, without marks; all have the same keys and types.

    They travel as CSV, which has each key once, and so takes a third of the room.
    """
    if not values:
        return alt.Chart(alt.InlineData(values=[]))
    text = io.StringIO()
    writer = csv.DictWriter(text, list(values[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(values)
    kinds = {float: "number", int: "number", str: "string"}
    parse = {name: kinds[type(value)] for name, value in values[0].items()}
    form = alt.CsvDataFormat(type="csv", parse=parse)
    return alt.Chart(alt.InlineData(values=text.getvalue(), format=form))


def hatches(names: Sequence[str]) -> alt.Scale:
    """Return the scale from names to the patterns of the page that are called so."""
    return alt.Scale(domain=list(names), range=[f"url(#fill-{name})" for name in names])


def band_y(field: str, bands: int) -> alt.Y:
    """Return a vertical position counted in bands from above."""
    scale = alt.Scale(domain=[0, bands], reverse=True, nice=False, zero=False)
    return alt.Y(field, type="quantitative", axis=None, scale=scale)


def band_texts(
    names: Sequence[str],
    figures: Sequence[str],
    short: Sequence[str] | None = None,
    room: tuple[int, int] = (110, 110),
) -> list[alt.Chart]:
    """Return a line of text above each band: a name to the left, a figure to the right.

    Args:
        names: One for each band; one that is empty has no texts.
        figures: One for each band.
        short: Figures for a narrow chart, where those do not fit.
        room: Pixels for the figures on a wide and on a narrow chart; longer names are cut, and
            shown whole on hovering.
    """
    bands = len(names)
    values = [
        {"y": at + NAME_AT, "name": name, "figure": figure, "short": brief}
        for at, (name, figure, brief) in enumerate(
            zip(names, figures, short or figures, strict=True)
        )
        if name
    ]
    lines = data([{"y": at} for at in range(1, bands)])
    is_wide = f"width > {NARROW_PIXELS}"
    left = alt.ExprRef(f"max(60, width - ({is_wide} ? {room[0]} : {room[1]}))")
    return [
        lines.mark_rule(stroke=FAINT, strokeWidth=1).encode(y=band_y("y", bands)),
        data(values)
        .mark_text(align="left", baseline="middle", limit=left, fontWeight=600)
        .encode(x=alt.value(0), y=band_y("y", bands), text=alt.Text("name:N"), tooltip=["name:N"]),
        data(values)
        .transform_calculate(text=f"{is_wide} ? datum.figure : datum.short")
        .mark_text(align="right", baseline="middle", fill=MUTED)
        .encode(x=alt.value("width"), y=band_y("y", bands), text=alt.Text("text:N")),
    ]


def most(rows: Sequence[Numbered]) -> tuple[tuple[Numbered, ...], tuple[str, ...]]:
    """Return as many rows as a chart of bands can hold, and a sentence where that is not all."""
    if len(rows) <= MOST_BANDS:
        return tuple(rows), ()
    said = f"Shown are the first {MOST_BANDS} of {len(rows)} strategies; the table has all."
    return tuple(rows[:MOST_BANDS]), (said,)


def left_out(names: Sequence[str], why: str) -> tuple[str, ...]:
    """Return a sentence that tells which rows a chart lacks, none where it lacks none.

    Example:
        >>> left_out(["full", "head-only"], "no step time")
        ('Left out, no step time: full, head-only.',)
    """
    if not names:
        return ()
    shown = ", ".join(names[:8])
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return (f"Left out, {why}: {shown}{more}.",)
