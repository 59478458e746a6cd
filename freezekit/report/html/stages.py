"""The model from stem to head, a line for each strategy: what trains, what is frozen or held."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal

import altair as alt

from freezekit.report.formatting import plain, share
from freezekit.report.html.drawing import (
    BAND_PIXELS,
    INK,
    MUTED,
    PAPER,
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
from freezekit.results.derived import fraction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.results.records import Result, Row, StageFigures

TITLE = "Freeze map"
State = Literal["trains", "part", "frozen", "held", "empty"]
STATES: dict[State, tuple[str, str]] = {
    "trains": ("T", "trains"),
    "part": ("P", "part of it trains"),
    "frozen": ("F", "frozen"),
    "held": ("E", "frozen and held in eval mode"),
    "empty": ("", "no parameters"),
}
EVEN = "even"
WIDTHS = {EVEN: "the same for all", "parameters": "parameters", "flops": "forward FLOPs"}
TOP, BOTTOM, UNDER = 0.42, 0.8, 0.88  # of a band
LETTER_PIXELS, SHARE_PIXELS, NAME_PIXELS = 13, 44, 7


def state(stage: StageFigures) -> State:
    """Return what becomes of a stage.

    Example:
        >>> from freezekit.results.records import StageFigures
        >>> state(StageFigures("a", "stem", parameters=8, trainable=0, modules=3, held_in_eval=3))
        'held'
    """
    if stage.parameters == 0:
        return "empty"
    if stage.trainable == stage.parameters:
        return "trains"
    if stage.trainable:
        return "part"
    return "held" if stage.modules and stage.held_in_eval == stage.modules else "frozen"


def spans(sizes: Sequence[float]) -> list[tuple[float, float]]:
    """Return where each part of a line of length 1 begins and ends.

    Example:
        >>> spans([1, 1, 2])
        [(0.0, 0.25), (0.25, 0.5), (0.5, 1.0)]
    """
    total = sum(sizes) or 1
    ends = [round(end / total, 6) for end in accumulate(sizes)]
    return list(zip([0.0, *ends], ends, strict=False))


def draw(result: Result) -> Drawing:
    """Return the chart of one result."""
    rows = numbered(result.rows)
    staged = [row for row in rows if row.row.stages]
    if not staged:
        why = (
            "No chart: the file does not tell stages. The model could not be divided into stages, "
            "or an older freezekit measured it."
        )
        return Drawing("stages", TITLE, None, reading=(why,))
    shown, cut = most(_stock_first(staged))
    missing = [row.name for row in rows if not row.row.stages]
    alike = [row.row for row in staged if row not in _stock_first(staged)]
    has_flops = all(s.forward_flops is not None for row in shown for s in row.row.stages)
    widths = [name for name in WIDTHS if name != "flops" or has_flops]
    states = [name for name in STATES if any(_has(row, name) for row in shown)]
    return Drawing(
        "stages",
        TITLE,
        as_spec(_layers(shown, widths), BAND_PIXELS * (len(shown) + 1), by=EVEN),
        text=f"What {len(shown)} strategies do to the {len(shown[0].row.stages)} stages of the "
        "model, from stem to head. The table under the chart tells it in words.",
        reading=(
            "From left to right: the stages from stem to head. The line under a stage is the "
            "share of its modules that is held in eval mode: running statistics stay, dropout is "
            "off.",
            *_alike(alike),
            *cut,
            *left_out(missing, "no stages"),
        ),
        legend=(
            *(Key(f"fill-{name}", _legend(name)) for name in states),
            Key("eval", "share held in eval mode"),
        ),
        grid=_grid(shown),
        switch=tuple((name, WIDTHS[name]) for name in widths),
    )


def _stock_first(staged: Sequence[Numbered]) -> list[Numbered]:
    """Leave out lean and compiled rows whose stock, eager row is there: they freeze the same."""
    plain = {row.row.strategy for row in staged if not row.row.lean and not row.row.compiled}
    return [
        row
        for row in staged
        if not (row.row.lean or row.row.compiled) or row.row.strategy not in plain
    ]


def _alike(rows: Sequence[Row]) -> tuple[str, ...]:
    """Say why rows are left out that freeze what others freeze."""
    lean = ("Lean rows freeze what their stock rows freeze.",)
    compiled = ("Compiled rows freeze what their eager rows freeze.",)
    return (
        *(lean if any(row.lean for row in rows) else ()),
        *(compiled if any(row.compiled for row in rows) else ()),
    )


def _has(row: Numbered, name: State) -> bool:
    return any(state(stage) == name for stage in row.row.stages)


def _legend(name: State) -> str:
    letter, words = STATES[name]
    return f"{letter}: {words}" if letter else words


def _layers(shown: Sequence[Numbered], widths: Sequence[str]) -> list[alt.Chart]:
    bands = len(shown) + 1  # the names of the stages come first
    stages = shown[0].row.stages
    heads = [{"at": 0, "held": 0, "name": plain(s.name), **p} for s, p in _placed(stages, widths)]
    values: list[dict[str, Any]] = []  # Any: numbers and text
    for at, row in enumerate(shown, 1):
        for stage, places in _placed(row.row.stages, widths):
            found = state(stage)
            held = fraction(stage.held_in_eval, stage.modules) or 0.0
            trained = fraction(stage.trainable, stage.parameters)
            values.append(
                {
                    "at": at,
                    "held": round(held, 4),
                    "state": found,
                    "letter": STATES[found][0],
                    "strategy": row.name,
                    "stage": plain(stage.name),
                    "trained": share(trained),
                    "eval": share(held),
                    **places,
                }
            )
    scale = alt.Scale(domain=[0, 1], nice=False)
    x, centre = (alt.X(f"{name}:Q", axis=None, scale=scale) for name in ("start", "centre"))
    return [
        *band_texts(["", *(row.name for row in shown)], ["", *map(_trained, shown)]),
        _switched(heads)
        .transform_filter(f"datum.room > {NAME_PIXELS} * length(datum.name)")
        .mark_text(align="center", baseline="middle", fill=MUTED, fontSize=11)
        .encode(x=centre, y=band_y("middle", bands), text=alt.Text("name:N")),
        _switched(values)
        .mark_rect(stroke=PAPER, strokeWidth=1)
        .encode(
            x=x,
            x2="end:Q",
            y=band_y("top", bands),
            y2="bottom:Q",
            fill=alt.Fill("state:N", scale=hatches(list(STATES)), legend=None),
            tooltip=[
                "strategy:N",
                "stage:N",
                alt.Tooltip("trained:N", title="trained"),
                alt.Tooltip("eval:N", title="held in eval"),
            ],
        ),
        _switched(values)
        .mark_rule(stroke=INK, strokeWidth=3)
        .encode(x=x, x2="heldEnd:Q", y=band_y("under", bands)),
        _switched(values)
        .transform_filter(f"datum.room > {LETTER_PIXELS} && datum.letter != null")
        .transform_calculate(
            text=f"datum.state == 'part' && datum.room > {SHARE_PIXELS} "
            "? datum.trained : datum.letter"
        )
        .mark_text(align="center", baseline="middle", fontSize=11, fontWeight=700)
        .encode(
            x=centre,
            y=band_y("middle", bands),
            text=alt.Text("text:N"),
            fill=alt.when("datum.state == 'trains'")
            .then(alt.value("var(--on-trains)"))
            .otherwise(alt.value(INK)),
        ),
    ]


def _switched(values: Sequence[dict[str, Any]]) -> alt.Chart:  # Any: numbers and text
    """Return a chart of stages whose places follow the signal `by`."""
    return (
        data(values)
        .transform_calculate(start="datum[by + '0']", end="datum[by + '1']")
        .transform_calculate(
            centre="(datum.start + datum.end) / 2",
            room="(datum.end - datum.start) * width",
            top=f"datum.at + {TOP}",
            middle=f"datum.at + {(TOP + BOTTOM) / 2}",
            bottom=f"datum.at + {BOTTOM}",
            under=f"datum.at + {UNDER}",
            heldEnd="datum.start + datum.held * (datum.end - datum.start)",
        )
    )


def _placed(
    stages: Sequence[StageFigures], widths: Sequence[str]
) -> list[tuple[StageFigures, dict[str, float]]]:
    sizes: dict[str, list[float]] = {
        EVEN: [1.0] * len(stages),
        "parameters": [float(stage.parameters) for stage in stages],
        "flops": [float(stage.forward_flops or 0) for stage in stages],
    }
    placed: list[dict[str, float]] = [{} for _ in stages]
    for name in widths:
        for at, (start, end) in enumerate(spans(sizes[name])):
            placed[at] |= {f"{name}0": start, f"{name}1": end}
    return list(zip(stages, placed, strict=True))


def _trained(row: Numbered) -> str:
    parameters = sum(stage.parameters for stage in row.row.stages)
    trainable = sum(stage.trainable for stage in row.row.stages)
    return f"{share(fraction(trainable, parameters))} trained"


def _grid(shown: Sequence[Numbered]) -> Grid:
    heads = [plain(stage.name) for stage in shown[0].row.stages]
    return Grid(
        ("strategy", *heads),
        tuple((row.name, *map(_words, row.row.stages)) for row in shown),
    )


def _words(stage: StageFigures) -> str:
    found = state(stage)
    if found != "part":
        return STATES[found][1]
    held = f", {share(fraction(stage.held_in_eval, stage.modules))} held in eval"
    trained = share(fraction(stage.trainable, stage.parameters))
    return f"{trained} trains{held if stage.held_in_eval else ''}"
