"""What stands under the table."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from freezekit.bench.statistics import Estimate
from freezekit.bench.statistics import noise_floor as floor_of_the_verdicts
from freezekit.report.notes import notes
from freezekit.results.derived import noise_floor
from freezekit.results.records import Control, Result

MakeResult = Callable[..., Result]


def _texts(result: Result) -> list[str]:
    return [note.text for note in notes(result).all]


@pytest.mark.parametrize("ci", [(0.98, 1.03), (0.95, 1.01), (1.01, 1.02)])
def test_the_noise_floor_is_the_one_that_the_verdicts_take(
    make_result: MakeResult, ci: tuple[float, float]
) -> None:
    printed = noise_floor(make_result(control=Control(1.0, ci)))
    taken = floor_of_the_verdicts(Estimate(1.0, ci, blocks=8))
    assert printed is not None
    assert taken is not None
    assert math.log1p(printed) == pytest.approx(taken)


def test_a_warning_of_several_rows_is_said_once(make_result: MakeResult) -> None:
    rows = tuple(replace(row, warnings=("not_steady: 7%",)) for row in make_result().rows[:3])
    found = [note for note in notes(make_result(rows=rows)).all if note.kind == "warning"]
    assert [n.text for n in found] == ["full, head-only, by-name:contains=bn: not_steady: 7%"]


def test_lean_rows_have_names_of_their_own_and_are_explained(make_result: MakeResult) -> None:
    rows = make_result().rows[:2]
    lean = replace(rows[1], lean=True, warnings=("drifts",))
    failed = replace(rows[0], lean=True, status="error", error="FreezeError: no")
    texts = _texts(make_result(rows=(*rows, failed, lean)))
    assert "head-only [lean]: drifts" in texts
    assert "full [lean]: error (plugin full, freezekit 0.1.0): FreezeError: no" in texts
    assert any(text.startswith("[lean]: Frozen with lean=True") for text in texts)
    assert not any(text.startswith("[lean]") for text in _texts(make_result()))


def test_what_a_budget_cut_is_said(make_result: MakeResult) -> None:
    cut = "to fit 60 s, 5 blocks instead of 8"
    assert f"the time budget cut the timing: {cut}" in _texts(
        make_result(timing_design={"cut": cut})
    )


def test_no_control_leaves_the_noise_floor_unknown(make_result: MakeResult) -> None:
    assert "noise floor unknown: no second copy of `full` was timed" in _texts(
        make_result(control=None)
    )


def test_notes_of_the_run_are_passed_on(make_result: MakeResult) -> None:
    assert "2 threads on 2 busy cores" in _texts(make_result(notes=("2 threads on 2 busy cores",)))


def test_peaks_of_two_methods_are_told_apart_and_not_compared(make_result: MakeResult) -> None:
    full, head, *rest = make_result().rows
    head = replace(head, memory=replace(head.memory, peak_method="predicted"))
    (said,) = (t for t in _texts(make_result(rows=(full, head, *rest))) if t.startswith("peak:"))
    assert "predicted (~), without workspace, for head-only. The two are not compared" in said
    rows = (replace(r, memory=replace(r.memory, peak_method="predicted")) for r in (full, head))
    predicted = make_result(rows=tuple(rows))
    (said,) = (text for text in _texts(predicted) if text.startswith("peak:"))
    assert said.endswith(" Predicted under fake tensors, workspace not included.")
