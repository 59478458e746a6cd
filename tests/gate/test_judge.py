"""A gate fails a row only where the figures leave no doubt."""

from __future__ import annotations

from math import inf, nan

import pytest
from msgspec.structs import replace

from freezekit.errors import GateError
from freezekit.gate.judge import Gate, Judgement, check_gates, judge
from freezekit.results.records import (
    Control,
    Filling,
    Flops,
    Memory,
    Parameters,
    Result,
    Row,
    StepSeconds,
    Time,
    Workload,
)
from freezekit.results.variant import BASELINE, Variant

STEPS = StepSeconds(0.2, 0.19, 0.22)


def _row(strategy: str, peak: int, ratio: float, half: float, *, lean: bool = False) -> Row:
    time = Time(STEPS, ratio, (ratio - half, ratio + half), "no difference shown")
    memory = Memory(peak_bytes=peak, peak_method="measured", saved_activations_bytes=peak // 2)
    return Row(strategy, lean, parameters=Parameters(9, 3, "a"), memory=memory, time=time)


def _result(*rows: Row, floor: float = 0.01) -> Result:
    full = replace(_row("full", 1000, 1.0, 0.0), flops=Flops(1, 2))
    assert full.time is not None
    full = replace(full, time=replace(full.time, verdict="baseline"))
    control = Control(1.0, (1 / (1 + floor), 1 + floor))
    return Result("0.1.0", Workload("timm:resnet18"), {}, (full, *rows), control=control)


def _judged(gate: str, *rows: Row, floor: float = 0.01) -> list[str]:
    return [found.outcome for found in judge([Gate.read(gate)], _result(*rows, floor=floor))]


def test_bytes_are_exact() -> None:
    row = _row("head-only", 600, 0.5, 0.1)
    assert _judged("peak_bytes > full * 0.6", row) == ["passed"]
    assert _judged("peak_bytes >= full * 0.6", row) == ["failed"]
    assert _judged("peak_bytes != 600", row) == ["passed"]
    assert _judged("saved_activations_bytes == 300 and peak_bytes < 1KiB", row) == ["failed"]


def test_a_ratio_is_as_wide_as_its_interval() -> None:
    row = _row("head-only", 600, 1.0, 0.1)
    assert _judged("time.ratio > 1.05", row) == ["unclear"]
    assert _judged("time.ratio > 1.2", row) == ["passed"]
    assert _judged("time.ratio > 0.8", row) == ["failed"]
    assert _judged("time.ratio_ci.high > 1.05", row) == ["failed"], "its end is a number"
    assert _judged("1.05 < time.ratio_ci.low", row) == ["passed"]


def test_a_ratio_is_no_surer_than_identical_code() -> None:
    row = _row("head-only", 600, 1.1, 0.01)
    assert _judged("time.ratio > 1.05", row) == ["failed"]
    assert _judged("time.ratio > 1.05", row, floor=0.2) == ["unclear"]


def test_what_one_side_decides_needs_no_other() -> None:
    row = _row("head-only", 600, 1.0, 0.1)
    assert _judged("time.ratio > 1.05 and peak_bytes > 700", row) == ["passed"]
    assert _judged("time.ratio > 1.05 or peak_bytes > 500", row) == ["failed"]
    assert _judged("not time.ratio > 1.05", row) == ["unclear"]
    assert _judged("not (peak_bytes > 700 or time.ratio > 2)", row) == ["failed"]


def test_arithmetic_goes_over_intervals() -> None:
    row = _row("head-only", 600, 1.0, 0.1)
    assert _judged("time.ratio * -1 < -0.8", row) == ["failed"]
    assert _judged("2 / time.ratio > 3", row) == ["passed"]
    assert _judged("time.ratio - time.ratio > 0.5", row) == ["passed"]


def test_a_lacking_figure_is_said_and_decides_nothing() -> None:
    bare = Row("head-only", memory=Memory(peak_bytes=10, peak_method="predicted"))
    (found,) = judge([Gate.read("time.ratio > 1")], _result(bare))
    assert (found.outcome, found.reason) == ("unclear", "the row has no time.ratio")
    (found,) = judge([Gate.read("peak_bytes > full")], _result(bare))
    assert found.reason.startswith("the peak of the row is predicted, the peak of full is measured")
    (found,) = judge([Gate.read("peak_bytes / flops > full.peak_bytes")], _result(bare))
    assert found.outcome == "unclear"


def test_a_lacking_figure_is_said_where_another_condition_decides() -> None:
    bare = Row("head-only", memory=Memory(peak_bytes=10, peak_method="measured"))
    for gate, outcome in (
        ("peak_bytes > 1 or flops > 1", "failed"),
        ("peak_bytes < 1 and not flops > 1", "passed"),
    ):
        (found,) = judge([Gate.read(gate)], _result(bare))
        assert found.outcome == outcome
        assert found.reason.endswith("1 byte; the row has no flops")


def test_what_is_no_number_decides_nothing() -> None:
    row = _row("head-only", 600, 0.5, 0.1)
    (found,) = judge([Gate.read("1e308 * 10 - 1e308 * 10 > peak_bytes")], _result(row))
    assert (found.outcome, found.reason) == (
        "unclear",
        "1e+308 * 10 is too large for a number",
    )
    (found,) = judge([Gate.read("1 / 1e-320 > peak_bytes")], _result(row))
    assert found.outcome == "unclear"
    for ends in ((nan, 1.0), (0.5, nan), (inf, inf)):
        assert row.time is not None
        odd = replace(row, time=replace(row.time, ratio_ci=ends))
        (found,) = judge([Gate.read("time.ratio_ci.high - time.ratio_ci.low > 0")], _result(odd))
        assert found.outcome == "unclear"
        assert "is not a number" in found.reason


def test_an_interval_without_an_end_says_so() -> None:
    row = _row("head-only", 600, 1.0, 0.1)
    assert row.time is not None
    wide = replace(row, time=replace(row.time, ratio_ci=None))
    for gate, shown in (
        ("time.ratio > 1", "[0.000, no limit] > 1.000"),
        ("1s - full.time.step_seconds.median * time.ratio > 1ms", "[no limit, 1000 ms] > 1.00 ms"),
        ("peak_bytes * time.ratio > 1MiB", "[0 MiB, no limit] > 1.00 MiB"),
        ("0 * (time.ratio - time.ratio) == 0 and time.ratio > 1", "0.000 == 0.000; "),
    ):
        (found,) = judge([Gate.read(gate)], _result(wide))
        assert found.outcome == "unclear"
        assert found.reason.startswith(shown)


def test_stock_concerns_lean_rows_alone() -> None:
    stock, lean = _row("bias-only", 900, 1.0, 0.1), _row("bias-only", 300, 1.1, 0.1, lean=True)
    found = judge([Gate.read("peak_bytes > stock * 0.5")], _result(stock, lean))
    assert [(j.label, j.outcome) for j in found] == [("bias-only [lean]", "passed")]
    (alone,) = judge([Gate.read("peak_bytes > stock * 0.5")], _result(lean))
    assert alone.reason == "the result has no stock row to compare it with"


def test_one_strategy_can_be_picked() -> None:
    rows = (_row("head-only", 600, 0.5, 0.1), _row("bias-only", 600, 0.5, 0.1))
    gate = "strategy == 'head-only' and peak_bytes > 500"
    assert _judged(gate, *rows) == ["failed", "passed"]
    assert _judged("lean and peak_bytes > 1", *rows) == ["passed", "passed"]


def test_a_failed_row_is_not_judged_and_full_only_against_the_baseline() -> None:
    failed = Row("bias-only", status="error", error="no bias")
    assert _judged("peak_bytes > 1", failed) == []
    result = _result()
    gate = Gate.read("peak_bytes > baseline")
    earlier = {"full": (result, replace(result.rows[0], memory=Memory(999, "measured")))}
    (found,) = judge([gate], result, earlier)
    assert (found.label, found.outcome) == ("full", "failed")
    (found,) = judge([gate], result, {})
    assert found.reason == "the baseline has no row of this name"


def test_the_reason_holds_the_figures() -> None:
    def reason(gate: str) -> str:
        found: Judgement
        (found,) = judge([Gate.read(gate)], _result(_row("head-only", 2**20, 1.0, 0.1)))
        return found.reason

    assert reason("peak_bytes > 3MiB") == "1.00 MiB > 3.00 MiB"
    assert reason("peak_bytes > -1") == "1.00 MiB > -1 bytes"
    assert reason("peak_bytes > 1kB") == "1.00 MiB > 1000 bytes"
    assert reason("peak_bytes / full > 60%") == "1048.576 > 0.600"
    assert reason("time.ratio > 1.05") == (
        "[0.900, 1.100] > 1.050: the interval and the noise floor of this run allow both"
    )
    assert reason("parameters.trainable > 2 and lean") == "3.00 > 2.00; lean is false"


@pytest.mark.parametrize(
    ("gate", "static", "message"),
    [
        ("peak_bytes > baseline", False, "names a baseline; give the earlier result"),
        ("time.ratio > 1", True, "needs step times, which --static leaves out"),
    ],
)
def test_what_can_never_be_judged_is_refused_first(gate: str, static: bool, message: str) -> None:
    with pytest.raises(GateError, match=message):
        check_gates([Gate.read(gate)], [BASELINE], has_baseline=False, static_only=static)


@pytest.mark.parametrize("sign", ["==", "!="])
def test_a_strategy_that_no_row_has_is_refused(sign: str) -> None:
    there = [BASELINE, Variant("head-only"), Variant("head-only", lean=True)]
    check_gates([Gate.read(f"strategy {sign} 'head-only' and peak_bytes > 1")], there)
    with pytest.raises(GateError) as caught:
        check_gates([Gate.read(f"not ('haed-only' {sign} strategy) or lean")], there)
    assert "names the strategy 'haed-only', and no row has that name" in str(caught.value)
    assert "; there are 'full', 'head-only', did you mean 'head-only'?" in str(caught.value)


HEAD, LEAN_HEAD = Variant("head-only"), Variant("head-only", lean=True)
CACHED_HEAD = Variant("head-only", cached=True)
NO_OTHER = "concerns no row: the other rows are compared with stock full"
NOT_LEAN = "concerns no row: it compares lean rows with stock ones, and no row is lean; --lean both"
COMPILED_HEAD = Variant("head-only", compiled=True)
NOT_COMPILED = "concerns no row: it judges compiled rows, and there are none; --compile both"
NOT_CACHED = "concerns no row: it judges caches, and no row has one; --cache both"
NO_STOCK = "with stock ones of the same strategy, and there are none; --lean both"


@pytest.mark.parametrize(
    ("gate", "rows", "message"),
    [
        ("peak_bytes > full * 2", [BASELINE], NO_OTHER),
        ("peak_bytes > stock", [BASELINE, HEAD], NOT_LEAN),
        ("time.ratio_to_stock > 1.1", [BASELINE, HEAD], NOT_LEAN),
        ("peak_bytes > stock", [BASELINE, LEAN_HEAD], NO_STOCK),
        ("peak_bytes > full * 2", [BASELINE, HEAD], None),
        ("peak_bytes > full * 2", [BASELINE, LEAN_HEAD], None),
        ("peak_bytes > baseline", [BASELINE], None),
        ("time.pays_after_epochs > 3", [BASELINE, HEAD], NOT_CACHED),
        ("time.pays_after_epochs > 3", [BASELINE, CACHED_HEAD], None),
        ("time.ratio_to_eager > 1", [BASELINE, HEAD], NOT_COMPILED),
        ("time.compile_seconds > 60", [BASELINE, COMPILED_HEAD], None),
        ("peak_bytes > stock", [BASELINE, HEAD, LEAN_HEAD], None),
        ("peak_bytes > stock", [BASELINE, Variant("full", lean=True), LEAN_HEAD], None),
    ],
)
def test_a_gate_that_concerns_no_row_is_refused(
    gate: str, rows: list[Variant], message: str | None
) -> None:
    if message is None:
        check_gates([Gate.read(gate)], rows)
        return
    with pytest.raises(GateError, match=message):
        check_gates([Gate.read(gate)], rows)


def test_what_a_cache_takes_concerns_cached_rows_alone() -> None:
    cached = replace(
        _row("head-only", 300, 0.1, 0.1), cached=True, filling=Filling(9.0, pays_after_epochs=4)
    )
    result = _result(_row("head-only", 900, 1.0, 0.1), cached)
    found = judge([Gate.read("time.pays_after_epochs > 3")], result)
    assert [(one.label, one.outcome) for one in found] == [("head-only [cache]", "failed")]


def test_a_stock_row_may_be_of_the_run_that_is_resumed() -> None:
    check_gates([Gate.read("peak_bytes > stock")], [BASELINE, LEAN_HEAD], resumes=True)


@pytest.mark.parametrize("sign", ["==", "!="])
def test_a_misspelt_verdict_is_refused(sign: str) -> None:
    rows = [BASELINE, Variant("head-only")]
    check_gates([Gate.read(f"verdict {sign} 'slower'")], rows)
    with pytest.raises(GateError, match=r"the verdict 'slow'; expected one of .*'slower'"):
        check_gates([Gate.read(f"verdict {sign} 'slow'")], rows)
