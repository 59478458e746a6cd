"""What a file holds when a run goes on with it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from freezekit.bench.resuming import already_measured, with_run
from freezekit.results.records import (
    Memory,
    Parameters,
    Plugin,
    Raw,
    Result,
    Row,
    StepSeconds,
    Time,
    Workload,
)
from freezekit.results.variant import Variant

WORK = Workload("timm:resnet18")
PLUGIN = Plugin("full", "freezekit", "0.1.0")
COUNTED = Row(
    "full",
    plugin=PLUGIN,
    parameters=Parameters(9, 9, "a"),
    memory=Memory(9, "predicted"),
    plan_digest="p",
)
MEASURED = replace(COUNTED, memory=Memory(9, "measured"))
TIMED = replace(MEASURED, time=Time(StepSeconds(0.2, 0.1, 0.3), 1.0, None, None))


def run(*rows: Row, complete: bool = False, blocks: int = 0, torch: str = "2.15.0") -> Result:
    raw = Raw(steps=[[{}]] * blocks) if blocks else None
    return Result("0.1.0", WORK, {"torch": torch}, rows, raw=raw, complete=complete)


def of(row: Row, strategy: str) -> Row:
    return replace(row, strategy=strategy)


def test_a_run_that_is_begun_twice_stands_once() -> None:
    killed = run(MEASURED, of(MEASURED, "head-only"))
    begun = run(COUNTED, of(COUNTED, "head-only"))
    assert with_run([killed], begun) == (killed,), "until the new one got as far"
    further = run(MEASURED, of(MEASURED, "head-only"), blocks=1)
    assert with_run([killed], further) == (further,)
    assert with_run([further], killed) == (further,), "blocks of steps count too"
    assert with_run([further], replace(killed, complete=True)) == (replace(killed, complete=True),)
    more = run(COUNTED, of(COUNTED, "head-only"), of(COUNTED, "bias-only"))
    assert with_run([killed], more) == (killed,)


def test_a_whole_run_stays_beside_one_of_other_rows() -> None:
    whole = run(TIMED, of(TIMED, "head-only"), complete=True)
    for other in (run(COUNTED, of(COUNTED, "bias-only")), run(TIMED, complete=True)):
        assert with_run([whole], other) == (whole, other)
    elsewhere = replace(whole, env={"torch": "2.14.0"})
    assert with_run([elsewhere], whole) == (elsewhere, whole)
    batch = replace(whole, workload=replace(WORK, batch_size=2))
    assert with_run([batch], whole) == (batch, whole)


def test_step_times_take_the_place_of_static_figures() -> None:
    static = run(COUNTED, of(COUNTED, "head-only"), complete=True)
    timed = run(TIMED, of(TIMED, "head-only"), complete=True)
    assert with_run([static], timed) == (timed,)
    fewer = run(COUNTED, complete=True)
    assert with_run([timed], fewer) == (timed, fewer), "never the other way round"


def test_a_failed_row_is_measured_again_in_its_place() -> None:
    failed = replace(of(COUNTED, "head-only"), status="oom", error="killed")
    before = run(TIMED, failed, complete=True)
    begun = run(COUNTED, of(COUNTED, "head-only"))
    assert with_run([before], begun) == (before,)
    whole = run(TIMED, of(TIMED, "head-only"), complete=True)
    assert with_run([before], whole) == (whole,)


def test_what_stands_is_the_last_good_run_of_each_row() -> None:
    asked = [Variant("full"), Variant("head-only"), Variant("bias-only", lean=True)]
    first = run(TIMED, of(TIMED, "head-only"), complete=True)
    second = run(TIMED, of(COUNTED, "head-only"), of(TIMED, "bias-only"), complete=True)
    old = run(*first.rows, complete=True, torch="2.14.0")
    broken = run(*first.rows)
    lean = replace(of(COUNTED, "bias-only"), lean=True)
    now = run(COUNTED, of(COUNTED, "head-only"), lean)
    found = already_measured(asked, [first, second, old, broken], now, static_only=False)
    assert found == {Variant("full"): second, Variant("head-only"): first}


@pytest.mark.parametrize(
    "stale",
    [
        {"plan_digest": "q"},
        {"plan_digest": None},
        {"plugin": replace(PLUGIN, version="0.2.0")},
        {"plugin": replace(PLUGIN, distribution="other")},
    ],
)
def test_a_row_of_another_plan_or_plugin_is_measured_again(stale: dict[str, object]) -> None:
    asked = [Variant("full"), Variant("head-only")]
    before = run(TIMED, of(replace(TIMED, **stale), "head-only"), complete=True)
    now = run(COUNTED, of(COUNTED, "head-only"))
    found = already_measured(asked, [before], now, static_only=False)
    assert found == {Variant("full"): before}


@pytest.mark.parametrize("fact", ["threads", "model_digest", "timm"])
def test_a_run_of_another_model_or_thread_count_is_measured_again(fact: str) -> None:
    before = run(TIMED, complete=True)
    now = replace(run(COUNTED), env={**before.env, fact: "another"})
    assert already_measured([Variant("full")], [before], now, static_only=False) == {}


def test_where_there_is_no_plan_now_nothing_stands() -> None:
    before = run(replace(TIMED, plan_digest=None), complete=True)
    now = run(replace(COUNTED, plan_digest=None))
    assert already_measured([Variant("full")], [before], now, static_only=False) == {}
