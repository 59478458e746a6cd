"""What a training under a schedule costs: its phases, the state that stays, and the totals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
from msgspec.structs import replace

from freezekit import freeze_, load_registry
from freezekit.bench.memory import measured_figures
from freezekit.bench.over_run import run_estimate, totals
from freezekit.bench.phase_plan import PhasePlan
from freezekit.bench.phases import phases_of
from freezekit.bench.resuming import left_of, with_run
from freezekit.bench.schedule_rows import choose_schedules, with_schedule
from freezekit.bench.static import static_figures
from freezekit.bench.workload import inputs_of, load
from freezekit.errors import FreezekitError, ScheduleError
from freezekit.results.records import (
    Control,
    Flops,
    Memory,
    Raw,
    Result,
    Row,
    ScheduleCost,
    SchedulePhase,
    StepSeconds,
    Time,
    Workload,
)
from freezekit.results.variant import Variant

if TYPE_CHECKING:
    from collections.abc import Sequence

TINY = Workload("timm:test_resnet", batch_size=2, image_size=32, optimizer="adamw")
WORK = Workload("timm:resnet18")
REGISTRY = load_registry()
TEXT = "head-only then full at 1ep"


def plans(text: str, epochs: int = 4) -> list[PhasePlan]:
    found = phases_of(TINY, text, REGISTRY, epochs=epochs, steps_per_epoch=10)
    return [PhasePlan.from_data(phase) for phase in found]


# --- phases are measured as strategies are --------------------------------------------------------


@pytest.mark.parametrize("lean", [False, True])
def test_a_phase_without_a_past_has_the_figures_of_its_strategy(lean: bool) -> None:
    specs = "head-only", "first-n-stages:n=2", "full"
    phases = plans("head-only then first-n-stages:n=2 at 1ep then full at 50%")
    for spec, phase in zip(specs, phases, strict=True):
        assert phase.trained_before == frozenset(), "each phase trains what those before it did"
        figures = static_figures(TINY, phase, lean=lean)
        assert figures == static_figures(TINY, spec, lean=lean), spec
    assert measured_figures(TINY, phases[0], lean=lean).tracker_peak_bytes == (
        measured_figures(TINY, "head-only", lean=lean).tracker_peak_bytes
    )


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_state_of_what_was_trained_before_counts(optimizer: str) -> None:
    work = replace(TINY, optimizer=optimizer)
    phase = plans("full then head-only at 50%")[1]
    full, head = static_figures(work, "full").memory, static_figures(work, "head-only").memory
    found = static_figures(work, phase)
    kept = found.memory
    assert kept.optimizer_bytes == full.optimizer_bytes
    assert kept.gradients_bytes == head.gradients_bytes
    assert kept.saved_activations_bytes == head.saved_activations_bytes
    assert kept.inputs_bytes == head.inputs_bytes, "the state is not taken for anything else"
    assert None not in (kept.peak_bytes, head.peak_bytes)
    assert kept.optimizer_bytes is not None
    assert head.optimizer_bytes is not None
    assert head.peak_bytes is not None
    more = kept.optimizer_bytes - head.optimizer_bytes
    assert kept.peak_bytes == head.peak_bytes + more
    assert found.flops == static_figures(work, "head-only").flops
    measured = measured_figures(work, phase)
    assert measured.tracker_peak_bytes == kept.predicted_peak_bytes
    assert measured.optimizer_bytes == full.optimizer_bytes


def test_the_state_is_that_of_a_real_training() -> None:
    text, epochs, steps = "chain-thaw:every=1ep", 3, 2
    model = load(TINY, "cpu")
    inputs = inputs_of(TINY, model)
    frozen = freeze_(model, "full", registry=REGISTRY)
    optimizer = torch.optim.AdamW(frozen.param_groups(1e-3, 0.05, all_phases=True), lr=1e-3)
    run = frozen.follow(text, optimizer, epochs=epochs, steps_per_epoch=steps)
    held = []
    for _ in range(epochs):
        for _ in range(steps):
            optimizer.zero_grad()
            model(*inputs).sum().backward()
            optimizer.step()
            state = [t for s in optimizer.state.values() for t in s.values()]
            now = sum(t.untyped_storage().nbytes() for t in state)
            run.step()
        held.append(now)
        run.epoch()
    phases = plans(text, epochs)
    assert len(phases) == epochs
    assert any(phase.trained_before for phase in phases)
    found = [static_figures(TINY, phase, flops=False).memory.optimizer_bytes for phase in phases]
    assert found == held


def test_what_cannot_be_known_beforehand_is_refused() -> None:
    with pytest.raises(ScheduleError, match=r"'on-plateau:.*observes metrics .* with -s"):
        choose_schedules(["on-plateau:phases=head-only|full"], REGISTRY)
    with pytest.raises(FreezekitError, match="nothing-at-all"):
        choose_schedules(["head-only then nothing-at-all at 1ep"], REGISTRY)
    with pytest.raises(ScheduleError, match="begins at 50ep, but the training ends after 2"):
        phases_of(TINY, "head-only then full at 50ep", REGISTRY, epochs=2, steps_per_epoch=5)


# --- rows -----------------------------------------------------------------------------------------


def asked(rows: Sequence[Row], *digests: str, lean: bool = False, text: str = TEXT) -> Result:
    """Return a result to which a schedule of phases with these plans was added."""
    phases = [
        {"begins": f"{i}ep", "steps": 10, "spec": "full", "plan_digest": digest}
        for i, digest in enumerate(digests)
    ]
    length = len(digests), 10
    result = Result("0.1.0", WORK, {"torch": "2.15.0"}, tuple(rows))
    return with_schedule(result, Variant(text, lean), phases, length, REGISTRY)


def test_a_plan_is_measured_once() -> None:
    rows = (Row("full", plan_digest="f"), Row("head-only", plan_digest="h"))
    found = asked(rows, "h", "x", "h", "x", "f")
    assert [row.label for row in found.rows] == ["full", "head-only", f"{TEXT} @ 1ep"]
    assert found.rows[2].phase is not None
    assert (found.rows[2].phase.index, found.rows[2].phase.begins) == (2, "1ep")
    assert [p.row for p in found.schedules[0].phases] == [
        "head-only",
        f"{TEXT} @ 1ep",
        "head-only",
        f"{TEXT} @ 1ep",
        "full",
    ]


def test_a_lean_phase_shares_no_row_with_a_stock_one() -> None:
    found = asked((Row("full", plan_digest="f"),), "f", lean=True)
    assert [row.label for row in found.rows] == ["full", f"{TEXT} @ 0ep [lean]"]
    assert found.schedules[0].lean


def test_a_phase_shares_no_row_with_a_cached_one() -> None:
    rows = (Row("full", plan_digest="f"), Row("head-only", plan_digest="h", cached=True))
    found = asked(rows, "h", "f")
    assert [row.label for row in found.rows][1:] == ["head-only [cache]", f"{TEXT} @ 0ep"]


def test_the_plugin_is_that_of_the_schedule_or_of_the_strategy() -> None:
    for text, name in ((TEXT, "full"), ("chain-thaw", "chain-thaw")):
        (row,) = asked((), "a", text=text).rows
        assert row.plugin is not None
        assert row.plugin.name == name


# --- the whole run --------------------------------------------------------------------------------


def block(full: float, **others: float) -> list[dict[str, list[float]]]:
    return [{name: [9.0, time, time] for name, time in {"full": full, **others}.items()}]


def test_noise_that_phases_share_is_not_taken_for_independent() -> None:
    shares = {"a": 0.5, "b": 0.5}
    opposed = [block(1.0, a=0.5 + e, b=0.5 - e) for e in (0.1, -0.1, 0.05)]
    found = run_estimate(Raw(steps=opposed), shares, "full")
    assert found is not None
    assert found.ratio == pytest.approx(0.5)
    assert found.ci == pytest.approx((0.5, 0.5)), "what one phase loses the other gains"
    together = [block(1.0, a=0.5 + e, b=0.5 + e) for e in (0.1, -0.1, 0.05)]
    wide = run_estimate(Raw(steps=together), shares, "full")
    alone = run_estimate(Raw(steps=together), {"a": 1.0}, "full")
    assert wide is not None
    assert alone is not None
    assert wide.ci == pytest.approx(alone.ci), "and no narrower than that of one phase"


def test_blocks_count_in_which_all_phases_took_their_turns() -> None:
    blocks = [block(1.0, a=0.5, b=0.5), block(1.0, a=0.5)]
    found = run_estimate(Raw(steps=blocks), {"a": 0.5, "b": 0.5}, "full")
    assert found is not None
    assert (found.ratio, found.ci, found.blocks) == (pytest.approx(0.5), None, 1)
    assert run_estimate(Raw(steps=blocks[1:]), {"a": 0.5, "b": 0.5}, "full") is None


def timed(median: float) -> Time:
    return Time(StepSeconds(median, median, median), median, (median, median), None)


def whole(*rows: Row, steps: Sequence[int] = (100, 300)) -> ScheduleCost:
    phases = tuple(
        SchedulePhase("0ep", count, None, row.label)
        for count, row in zip(steps, rows[1:], strict=True)
    )
    cost = ScheduleCost(TEXT, False, 4, 100, phases)
    raw = Raw(steps=[block(1.0, a=0.2, b=0.6), block(1.0, a=0.2, b=0.6)])
    control = Control(1.0, (0.99, 1.01))
    (found,) = totals(Result("0.1.0", WORK, {}, rows, control=control, raw=raw, schedules=(cost,)))
    return found


FULL = Row("full", memory=Memory(9, "measured"), flops=Flops(4, 8), time=timed(1.0))
A = Row("a", memory=Memory(5, "measured"), flops=Flops(4, 0), time=timed(0.2))
B = Row("b", memory=Memory(7, "measured"), flops=Flops(4, 4), time=timed(0.6))


def test_totals_weigh_phases_by_their_steps() -> None:
    found = whole(FULL, A, B)
    assert (found.peak_bytes, found.peak_method) == (7, "measured")
    assert found.flops == 100 * 4 + 300 * 8
    assert found.flops_ratio == pytest.approx(2800 / 4800)
    assert found.time is not None
    assert found.time.seconds == pytest.approx(100 * 0.2 + 300 * 0.6)
    assert found.time.full_seconds == 400
    assert found.time.ratio == pytest.approx(0.25 * 0.2 + 0.75 * 0.6)
    assert found.time.verdict == "faster"


def test_totals_that_a_row_lacks_are_not_made_up() -> None:
    unknown = whole(FULL, A, Row("b", status="oom", error="killed"))
    assert unknown.peak_bytes is None
    assert (unknown.flops, unknown.flops_ratio, unknown.time) == (None, None, None)
    mixed = whole(FULL, A, replace(B, memory=Memory(8, "predicted")))
    assert mixed.peak_bytes is None, "a measured and a predicted peak are not compared"
    huge = replace(B, flops=Flops(2**60, 2**60))
    assert whole(FULL, A, huge).flops is None, "more than 64 bits"
    assert whole(FULL, A, huge).flops_ratio is not None


def test_a_run_of_full_alone_is_full() -> None:
    phases = (SchedulePhase("0ep", 400, "full", "full"),)
    raw = Raw(steps=[block(1.0), block(1.2)])
    cost = ScheduleCost("full", False, 4, 100, phases)
    (found,) = totals(Result("0.1.0", WORK, {}, (FULL,), raw=raw, schedules=(cost,)))
    assert found.flops_ratio == 1.0
    assert found.time is not None
    assert (found.time.ratio, found.time.ratio_ci) == (1.0, (1.0, 1.0))
    assert found.time.verdict == "no difference shown"
    assert math.isclose(found.time.seconds, found.time.full_seconds)


# --- with earlier runs ----------------------------------------------------------------------------


def done(result: Result) -> Result:
    rows = tuple(replace(row, time=timed(0.5)) for row in result.rows)
    return replace(result, rows=rows, complete=True)


def test_a_schedule_that_one_run_has_whole_is_not_measured_again() -> None:
    rows = (Row("full", plan_digest="f"), Row("head-only", plan_digest="h"))
    now = asked(rows, "h", "x", "f")
    left = left_of(now, [done(now)], static_only=False)
    assert (left.rows, left.schedules) == ((), ())
    assert {variant.label for variant in left.measured_before} == {row.label for row in now.rows}

    later = done(asked(rows[:1], "y"))
    left = left_of(now, [done(now), later], static_only=False)
    assert left.rows == (), "though the last run that has `full` is another one"


def test_a_schedule_with_a_new_plan_is_measured_as_a_whole() -> None:
    rows = (Row("full", plan_digest="f"), Row("head-only", plan_digest="h"))
    now = asked((*rows, Row("bias-only", plan_digest="b")), "h", "x", "f")
    before = done(asked((*rows, Row("bias-only", plan_digest="b")), "h", "y", "f"))
    left = left_of(now, [before], static_only=False)
    assert [row.label for row in left.rows] == ["full", "head-only", f"{TEXT} @ 1ep"]
    assert left.schedules == now.schedules
    assert [variant.label for variant in left.measured_before] == ["bias-only"]


def test_a_strategy_alone_is_left_without_its_schedule() -> None:
    rows = (Row("full", plan_digest="f"),)
    before = done(asked(rows, "x", "f"))
    now = asked((*rows, Row("bias-only", plan_digest="b")), "x", "f")
    left = left_of(now, [before], static_only=False)
    assert [row.label for row in left.rows] == ["full", "bias-only"]
    assert left.schedules == ()


def test_a_run_with_a_schedule_is_not_replaced_by_one_of_the_same_rows() -> None:
    rows = (Row("full", plan_digest="f"), Row("head-only", plan_digest="h"))
    with_one = done(asked(rows, "h", "f"))
    without = replace(with_one, schedules=())
    assert with_run([with_one], without) == (with_one, without)
    assert with_run([without], with_one) == (with_one,)
