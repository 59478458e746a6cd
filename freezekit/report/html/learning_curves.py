"""Learning curves: the metric after each epoch, one candidate at a time before all others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt

from freezekit.report.formatting import plain
from freezekit.report.html.drawing import ACCENT, INK, MUTED, Drawing, Grid, Key, as_spec, data
from freezekit.sweep.figures import is_share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.sweep.records import Sweep, SweepRow

TITLE, HEIGHT = "Learning curves", 340
Curve = list[tuple[int, float]]  # (epoch, figure)


def draw(sweep: Sweep) -> Drawing:
    """Return the chart of a sweep, with a choice between candidates."""
    rows = [(at, row) for at, row in enumerate(sweep.rows, 1) if mean_curve(sweep, row)]
    if not rows:
        return Drawing("curves", TITLE, None, reading=("No chart: no epoch is done yet.",))
    chosen = next((at for at, row in rows if row.label == sweep.recommended), rows[0][0])
    ordered = sorted(rows, key=lambda one: one[0] != chosen)  # the first choice is checked
    metric = sweep.settings.metric.replace("_", " ")
    return Drawing(
        "curves",
        TITLE,
        as_spec(_layers(sweep, rows, metric), HEIGHT, by=str(chosen)),
        text=f"Mean {metric} on the validation images after each epoch, of {len(rows)} candidates.",
        reading=(
            "The thick line is the mean over seeds of the chosen candidate, thin ones are its "
            "seeds; the others' means are behind them, with their numbers of the table.",
        ),
        legend=(
            Key("line-mean", "chosen, mean"),
            Key("line-seed", "chosen, each seed"),
            Key("line-other", "the others, means"),
        ),
        grid=_grid(sweep, rows),
        switch=tuple((str(at), f"{at} {_name(row)}") for at, row in ordered),
        switch_title="Candidate",
    )


def seed_curves(sweep: Sweep, row: SweepRow) -> dict[int, Curve]:
    """Return the figures of each seed by epoch, those that are known."""
    metric = sweep.settings.metric
    return {
        trial.recipe.seed: [
            (epoch.number, value)
            for epoch in trial.epochs
            if (value := epoch.val.get(metric)) is not None
        ]
        for trial in row.trials
    }


def mean_curve(sweep: Sweep, row: SweepRow) -> Curve:
    """Return the mean over seeds after each epoch that all trials of the row have."""
    curves = [dict(curve) for curve in seed_curves(sweep, row).values()]
    if not curves:
        return []
    common = sorted(set.intersection(*(set(curve) for curve in curves)))
    return [(epoch, sum(curve[epoch] for curve in curves) / len(curves)) for epoch in common]


def _layers(sweep: Sweep, rows: Sequence[tuple[int, SweepRow]], metric: str) -> list[alt.Chart]:
    share = is_share(sweep.settings.metric)
    means: list[dict[str, Any]] = []  # Any: numbers and text
    seeds: list[dict[str, Any]] = []  # likewise
    for at, row in rows:
        means += [
            {"row": str(at), "epoch": epoch, "y": _y(value, share), "name": _name(row)}
            for epoch, value in mean_curve(sweep, row)
        ]
        seeds += [
            {"row": str(at), "line": f"{at} {seed}", "epoch": epoch, "y": _y(value, share)}
            for seed, curve in seed_curves(sweep, row).items()
            for epoch, value in curve
        ]
    last = sweep.settings.epochs
    x = alt.X(
        "epoch:Q",
        title="epoch",
        scale=alt.Scale(domain=[min(1, last - 1), last], nice=False, padding=16),
        axis=alt.Axis(values=_ticks(last), format="d"),
    )
    title = f"{metric}, %" if share else metric
    y = alt.Y("y:Q", title=title, scale=alt.Scale(zero=False, nice=True))
    ends = list({each["row"]: each for each in means}.values())
    is_chosen = "datum.row == by"
    return [
        data(means)
        .mark_line(stroke=MUTED, strokeWidth=1, opacity=0.6)
        .encode(x, y, detail="row:N"),
        data(seeds)
        .transform_filter(is_chosen)
        .mark_line(stroke=ACCENT, strokeWidth=1, opacity=0.7)
        .encode(x, y, detail="line:N"),
        data(means)
        .transform_filter(is_chosen)
        .mark_line(stroke=ACCENT, strokeWidth=3)
        .encode(x, y),
        data(means)
        .mark_point(size=30, filled=True, opacity=1, fill=MUTED)
        .encode(
            x, y, tooltip=["name:N", "epoch:Q", alt.Tooltip("y:Q", format=".3~f", title=title)]
        ),
        data(means)
        .transform_filter(is_chosen)
        .mark_point(size=60, filled=True, opacity=1, fill=ACCENT, stroke=INK, strokeWidth=1)
        .encode(x, y),
        data(ends)
        .mark_text(align="left", baseline="middle", dx=7, fill=INK)
        .encode(x, y, text="row:N"),
    ]


def _grid(sweep: Sweep, rows: Sequence[tuple[int, SweepRow]]) -> Grid:
    share = is_share(sweep.settings.metric)
    epochs = sorted({epoch for _, row in rows for epoch, _ in mean_curve(sweep, row)})
    lines = []
    for at, row in rows:
        curve = dict(mean_curve(sweep, row))
        texts = [
            f"{_y(curve[epoch], share):.{1 if share else 3}f}" if epoch in curve else "-"
            for epoch in epochs
        ]
        lines.append((f"{at} {_name(row)}", *texts))
    return Grid(("candidate", *(f"epoch {epoch}" for epoch in epochs)), tuple(lines))


def _ticks(last: int) -> list[int]:
    step = max(1, -(-last // 12))
    return sorted({1, last, *range(step, last + 1, step)})


def _name(row: SweepRow) -> str:
    return plain(row.label).replace("\n", " ")


def _y(value: float, share: bool) -> float:
    return 100 * value if share else value
