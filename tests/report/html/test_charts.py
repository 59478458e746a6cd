"""From a result to what its charts show: figures that add up, fronts, places, few enough points."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from typing import Any

import altair as alt
import pytest
from msgspec.structs import replace

from freezekit.report.html import forest, peak, stages, steps, tradeoff
from freezekit.report.html.drawing import MOST_BANDS, Drawing
from freezekit.report.html.labels import place_labels
from freezekit.report.html.timeline import MOST_POINTS, timeline
from freezekit.report.html.tradeoff import Point, front
from freezekit.results.records import Memory, Raw, Result, Row, StageFigures

MakeResult = Callable[..., Result]
MIB = 2**20
NUMBER = re.compile(r"-?[\d.]+(e-?\d+)?")

KNOWN = Memory(
    peak_bytes=1000,
    peak_method="measured",
    parameters_bytes=200,
    buffers_bytes=10,
    inputs_bytes=40,
    gradients_bytes=200,
    optimizer_bytes=200,
    saved_activations_bytes=500,
    workspace_bytes=50,
)


def values_of(drawing: Drawing, field: str) -> list[dict[str, Any]]:
    """Return the values of the layers whose values have a field, numbers as such."""
    assert drawing.spec is not None
    found: list[dict[str, Any]] = []
    for values in drawing.spec["datasets"].values():
        if isinstance(values, str):
            found += [_typed(line) for line in csv.DictReader(io.StringIO(values))]
    return [value for value in found if field in value]


def _typed(line: dict[str, str]) -> dict[str, Any]:
    return {name: float(text) if NUMBER.fullmatch(text) else text for name, text in line.items()}


@pytest.mark.parametrize("draw", [tradeoff.draw, peak.draw, forest.draw, stages.draw, steps.draw])
def test_specs_are_valid_and_have_no_name_that_counts_up(
    draw: Callable[[Result], Drawing], make_whole: MakeResult
) -> None:
    drawing = draw(make_whole())
    assert drawing.spec is not None
    alt.LayerChart.from_dict(drawing.spec)
    assert drawing.text
    assert drawing.reading
    assert drawing.legend
    assert draw(make_whole()) == drawing


class TestPeak:
    def test_where_the_moment_is_known_the_parts_are_those_of_the_moment(self) -> None:
        found = peak.parts(replace(KNOWN, gradients_at_peak_bytes=20, saved_at_peak_bytes=450))
        assert found is not None
        assert found.exact
        assert found.bytes == {
            "parameters": 200,
            "buffers": 10,
            "inputs": 40,
            "optimizer": 200,
            "gradients": 20,
            "saved": 450,
            "workspace": 50,
            "transient": 30,
        }

    def test_where_it_is_not_and_both_do_not_fit_they_are_one(self) -> None:
        found = peak.parts(KNOWN)
        assert found is not None
        assert not found.exact
        assert found.bytes["training"] == 500
        assert sum(found.bytes.values()) == 1000
        assert {"gradients", "saved", "transient"}.isdisjoint(found.bytes)

    def test_where_both_fit_they_are_drawn_in_full(self) -> None:
        found = peak.parts(replace(KNOWN, gradients_bytes=50, saved_activations_bytes=300))
        assert found is not None
        assert (found.bytes["gradients"], found.bytes["saved"]) == (50, 300)
        assert found.bytes["transient"] == 150
        assert sum(found.bytes.values()) == 1000

    @pytest.mark.parametrize("name", ["peak_bytes", "parameters_bytes", "gradients_bytes"])
    def test_without_a_figure_there_is_no_bar(self, name: str) -> None:
        assert peak.parts(replace(KNOWN, **{name: None})) is None

    def test_a_workspace_below_zero_is_told_where_it_does_not_add_up(self) -> None:
        memory = replace(
            KNOWN, workspace_bytes=-5, gradients_at_peak_bytes=60, saved_at_peak_bytes=495
        )
        found = peak.parts(memory)
        assert found is not None
        assert found.over_bytes == sum(found.bytes.values()) - 1000 == 5
        assert "workspace" not in found.bytes

    def test_every_bar_of_the_chart_adds_up(self, make_whole: MakeResult) -> None:
        result = make_whole()
        bars: dict[str, float] = {}
        for value in values_of(peak.draw(result), "category"):
            bars[value["strategy"]] = bars.get(value["strategy"], 0) + value["x2"] - value["x"]
        assert bars == {
            row.label: pytest.approx((row.memory.peak_bytes or 0) / MIB, abs=0.01)
            for row in result.rows
        }


class TestTradeoff:
    @staticmethod
    def at(name: str, ratio: float, peak_bytes: int) -> Point:
        return Point(name, ratio, ratio, ratio, peak_bytes)  # type: ignore[arg-type]  # no row

    def test_the_front_against_brute_force(self) -> None:
        grid = [(r / 10, p) for r in range(1, 6) for p in (5, 3, 4)]
        points = [self.at(f"{i}", r, (p * (7 - i)) % 11) for i, (r, p) in enumerate(grid)]

        def beaten(point: Point) -> bool:
            return any(
                other.ratio <= point.ratio
                and other.peak_bytes <= point.peak_bytes
                and (other.ratio, other.peak_bytes) != (point.ratio, point.peak_bytes)
                for other in points
            )

        assert {p.row for p in front(points)} == {p.row for p in points if not beaten(p)}

    def test_peaks_obtained_otherwise_are_left_out_and_named(self, make_whole: MakeResult) -> None:
        full, head, *others = make_whole().rows
        predicted = replace(head, memory=replace(head.memory, peak_method="predicted"))
        result = replace(make_whole(), rows=(full, predicted, *others))
        assert "head-only" not in [point.row.name for point in tradeoff.points(result)]
        assert any("head-only" in text for text in tradeoff.draw(result).reading)

    def test_lean_rows_have_another_shape_and_a_line_to_stock(self, make_whole: MakeResult) -> None:
        full, head = make_whole().rows[:2]
        result = replace(make_whole(), rows=(full, head, replace(head, lean=True)))
        drawing = tradeoff.draw(result)
        shapes = {v["strategy"]: v["shape"] for v in values_of(drawing, "shape")}
        assert shapes == {"full": "circle", "head-only": "circle", "head-only [lean]": "diamond"}
        assert len(values_of(drawing, "y2")) == 1
        assert "lean (a diamond)" in [key.text for key in drawing.legend]

    def test_of_many_points_only_those_on_the_front_are_named(self, make_whole: MakeResult) -> None:
        full, head = make_whole().rows[:2]
        assert full.time is not None
        slow = replace(full, time=replace(full.time, ratio=1.2, ratio_ci=(1.1, 1.3)))
        many = (replace(slow, strategy=f"by-name:contains=x{i}") for i in range(20))
        drawing = tradeoff.draw(replace(make_whole(), rows=(full, head, *many)))
        names = [value["name"] for value in values_of(drawing, "place")]
        assert names[:3] == ["1 full", "2 head-only", 3]
        crowd = (replace(slow, strategy=f"by-name:contains=x{i}") for i in range(120))
        drawing = tradeoff.draw(replace(make_whole(), rows=(full, head, *crowd)))
        names = [value["name"] for value in values_of(drawing, "place")]
        assert names[:4] == ["1 full", "2 head-only", "", ""]
        assert any("too many to be labelled" in text for text in drawing.reading)


def test_labels_do_not_cover_one_another_while_there_is_room() -> None:
    at = [(100.0, 50.0 + 22 * i) for i in range(8)]
    names, numbers = ["a name"] * 8, list("12345678")
    placed = place_labels(at, names, numbers, [(100, 100)] * 8, (400, 300))
    assert set(placed) == {("right", True)}
    crowded = place_labels([(200, 100)] * 4, names[:4], numbers[:4], [(200, 200)] * 4, (400, 200))
    assert len({place for place, _ in crowded}) == 4
    narrow = place_labels(at, names, numbers, [(100, 100)] * 8, (112, 300))
    assert {whole for _, whole in narrow} == {True}, "to the left there is room"
    full = place_labels([(75.0, 50.0)], ["a very, very long name"], ["1"], [(75, 75)], (150, 100))
    assert full == [("right", False)]


class TestForest:
    def test_it_tells_the_noise_band(self, make_whole: MakeResult) -> None:
        drawing = forest.draw(make_whole())
        assert "2.5%" in drawing.reading[0]
        bands = [(round(v["x"], 3), round(v["x2"], 3)) for v in values_of(drawing, "x2")]
        assert bands == [(0.976, 1.025)] * len(make_whole().rows)

    def test_without_a_control_no_band_is_drawn(self, make_whole: MakeResult) -> None:
        drawing = forest.draw(replace(make_whole(), control=None))
        assert "No band is drawn" in drawing.reading[0]
        assert values_of(drawing, "x2") == []

    def test_without_intervals_it_says_so(self, make_whole: MakeResult) -> None:
        rows = tuple(
            replace(row, time=replace(row.time, ratio_ci=None)) if row.time else row
            for row in make_whole().rows
        )
        said = forest.draw(replace(make_whole(), rows=rows)).reading
        assert "Without an interval: timed in one block only." in said


class TestStages:
    @pytest.mark.parametrize(
        ("trainable", "held", "parameters", "expected"),
        [
            (8, 0, 8, "trains"),
            (8, 3, 8, "trains"),
            (3, 1, 8, "part"),
            (0, 1, 8, "frozen"),
            (0, 4, 8, "held"),
            (0, 4, 0, "empty"),
        ],
    )
    def test_states(self, trainable: int, held: int, parameters: int, expected: str) -> None:
        stage = StageFigures("a", "body", parameters, trainable, 4, held)
        assert stages.state(stage) == expected

    def test_widths_add_up_by_whatever_they_go(self, make_whole: MakeResult) -> None:
        drawing = stages.draw(make_whole())
        assert [name for name, _ in drawing.switch] == ["even", "parameters", "flops"]
        full = [v for v in values_of(drawing, "stage") if v["strategy"] == "full"]
        for by in ("even", "parameters", "flops"):
            assert full[0][f"{by}0"] == 0
            assert full[-1][f"{by}1"] == 1
            assert [v[f"{by}1"] for v in full[:-1]] == [v[f"{by}0"] for v in full[1:]]

    def test_without_flops_there_is_no_such_switch(self, make_whole: MakeResult) -> None:
        rows = tuple(
            replace(row, stages=tuple(replace(s, forward_flops=None) for s in row.stages))
            for row in make_whole().rows
        )
        drawing = stages.draw(replace(make_whole(), rows=rows))
        assert [name for name, _ in drawing.switch] == ["even", "parameters"]

    def test_a_lean_row_is_told_once_with_its_stock_row(self, make_whole: MakeResult) -> None:
        full, head = make_whole().rows[:2]
        alone = replace(full, strategy="batch-norm", lean=True)
        result = replace(make_whole(), rows=(full, head, replace(head, lean=True), alone))
        drawing = stages.draw(result)
        assert drawing.grid is not None
        names = [line[0] for line in drawing.grid.lines]
        assert names == ["full", "head-only", "batch-norm [lean]"]
        assert "Lean rows freeze what their stock rows freeze." in drawing.reading


class TestTimeline:
    def test_the_order_is_that_of_the_run(self) -> None:
        turns = [{"full": [3.0, 1.0], "control": [4.0, 2.0]}]
        raw = Raw([[["control", "full"]]] * 2, [turns] * 2, [{"full": [9.0], "control": [8.0]}] * 2)
        found = timeline(raw, ["full", "control"], discarded=1)
        assert found.starts == (0, 6)
        assert [step.seconds for step in found.steps] == [9, 8, 4, 2, 3, 1] * 2
        assert [step.at for step in found.steps] == list(range(12))
        only = timeline(raw, ["full"], discarded=1)
        assert [step.at for step in only.steps] == [0, 4, 5, 6, 10, 11], "others keep their place"
        assert only.length == 12

    def test_too_many_are_thinned_and_that_is_said(self) -> None:
        turns = {f"s{i}": [0.3, 0.2, 0.1] for i in range(40)}
        raw = Raw([[list(turns)] * 3] * 8, [[turns] * 3] * 8, [turns] * 8)
        found = timeline(raw, list(turns), discarded=1)
        assert len(found.steps) == 40 * 8 * 3 <= MOST_POINTS
        assert found.thinned is not None
        assert "median of a turn" in found.thinned
        fewer = timeline(raw, list(turns), discarded=1, most=400)
        assert len(fewer.steps) == 40 * 8
        assert "median of a block" in str(fewer.thinned)
        assert {step.kind for step in fewer.steps} == {"measured"}
        assert {round(step.seconds, 6) for step in fewer.steps} == {0.15}

    def test_rounds_in_which_a_strategy_is_missing(self) -> None:
        raw = Raw(
            [[["full", "gone"], ["full"]]], [[{"full": [1, 2], "gone": [3, 4]}, {"full": [5]}]]
        )
        found = timeline(raw, ["full", "gone"], discarded=1)
        assert [(s.label, s.kind) for s in found.steps][-1] == ("full", "discarded")


def test_steps_beyond_the_scale_become_triangles(make_whole: MakeResult) -> None:
    result = make_whole()
    assert result.raw is not None
    raw = result.raw
    raw.warmup[0]["full"][0] = 99.0
    values = values_of(steps.draw(replace(result, raw=raw)), "kind")
    beyond = [value for value in values if value["shape"] == "triangle-up"]
    assert any((value["ms"], value["kind"]) == (99000, "warm-up") for value in beyond)


def test_charts_of_bands_have_at_most_so_many_and_say_so(make_whole: MakeResult) -> None:
    full = make_whole().rows[0]
    rows = tuple(replace(full, strategy=f"by-name:contains=x{i}") for i in range(MOST_BANDS + 9))
    result = make_whole(rows=rows)
    said = f"Shown are the first {MOST_BANDS} of {MOST_BANDS + 9} strategies; the table has all."
    for draw in (peak.draw, forest.draw, stages.draw, steps.draw):
        drawing = draw(result)
        assert said in drawing.reading, drawing.title
    assert len({v["strategy"] for v in values_of(peak.draw(result), "category")}) == MOST_BANDS


def test_failed_rows_are_named_where_they_are_left_out(make_whole: MakeResult) -> None:
    failed = Row("head-only", status="oom", error="killed")
    result = make_whole(rows=(make_whole().rows[0], failed))
    for draw in (tradeoff.draw, peak.draw, forest.draw, stages.draw):
        assert any("head-only" in text for text in draw(result).reading), draw
