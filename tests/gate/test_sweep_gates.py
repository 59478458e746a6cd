"""Gates on a sweep: paired differences, three outcomes, and what cannot be judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from freezekit.errors import GateError
from freezekit.gate.judge_sweep import check_sweep_gates, judge_sweep, read_sweep_gate
from freezekit.sweep.comparing import difference
from tests.report.example_sweep import example, with_failures

if TYPE_CHECKING:
    from freezekit.gate.judge import Judgement
    from freezekit.sweep.records import Sweep


def judged(text: str, sweep: Sweep, earlier: Sweep | None = None) -> dict[str, Judgement]:
    return {found.label: found for found in judge_sweep([read_sweep_gate(text)], sweep, earlier)}


def outcomes(text: str, sweep: Sweep, earlier: Sweep | None = None) -> list[str]:
    return [found.outcome for found in judged(text, sweep, earlier).values()]


def test_a_difference_is_paired() -> None:
    """Head-only is known to +0.8 [-3.2, 4.8] points, and both accuracies to some 7 points each."""
    sweep = example()
    for margin, outcome in ((0.05, "passed"), (0.03, "unclear"), (-0.06, "failed")):
        found = judged(f"accuracy < full - {margin}", sweep)["head-only"]
        assert found.outcome == outcome, margin
    assert judged("accuracy < full - 0.03", sweep)["head-only"].reason == (
        "the paired difference to full: [-0.032, 0.048] < -0.030: the 95 % interval allows both"
    )


@pytest.mark.parametrize(
    "text",
    [
        "accuracy < full - 0.05",
        "accuracy + 5% < full.accuracy",
        "full - accuracy > 0.05",
        "not (accuracy >= full - 0.05)",
        "(accuracy - full) * 2 < -0.1",
        "metric < full - 0.05",
    ],
)
def test_every_way_to_say_it_is_judged_alike(text: str) -> None:
    assert judged(text, example())["head-only"].outcome == "passed"


def test_a_part_of_full_is_the_difference_and_the_rest() -> None:
    sweep = example()
    row, full = sweep.rows[1], sweep.rows[0]
    paired = difference(row.trials, full.trials, "accuracy", sweep.data.val_labels)
    assert paired is not None
    assert paired.low is not None
    assert full.metric is not None
    assert full.metric.low is not None
    least = paired.low + 0.06 * full.metric.low
    assert least > 0
    assert judged("accuracy < full * 0.94", sweep)["head-only"].outcome == "passed"


def test_a_figure_that_is_not_the_metric_has_an_interval_too() -> None:
    sweep = example()
    sweep = replace(sweep, settings=replace(sweep.settings, metric="balanced_accuracy"))
    found = judged("accuracy < full - 0.03", sweep)["head-only"]
    assert (found.outcome, "paired difference" in found.reason) == ("unclear", True)
    assert judged("accuracy < 0.83", sweep)["head-only"].outcome == "unclear"


def test_figures_without_an_interval_are_exact() -> None:
    assert outcomes("gflops > full * 0.6", example()) == ["passed", "passed", "failed", "failed"]
    assert outcomes("peak_bytes > 100MiB", example()) == ["passed", "failed", "failed", "failed"]


def test_times_are_paired_by_seed() -> None:
    found = judged("train_seconds > full * 0.7", example())
    assert [one.outcome for one in found.values()] == ["passed", "passed", "failed", "failed"]
    assert found["head-only"].reason == "the paired ratio to full: [0.062, 0.062] > 0.700"


def test_texts_and_truths() -> None:
    text = "strategy == 'discriminative-lr:decay=0.8' and recommended"
    assert outcomes(text, example()) == ["passed", "passed", "failed", "passed"]
    assert outcomes("not on_front", example()) == ["passed"] * 4


def test_one_seed_says_nothing() -> None:
    assert set(outcomes("accuracy < full - 0.5", example(seeds=1))) == {"unclear"}
    assert set(outcomes("gflops > full * 2", example(seeds=1))) == {"passed"}
    assert judged("accuracy < full - 0.5", example(seeds=1))["head-only"].reason == (
        "accuracy may have any value: one seed has no interval"
    )


def test_rows_that_are_not_done_are_judged_by_their_status_alone() -> None:
    sweep = with_failures()
    assert set(judged("accuracy < 0.5", sweep)) == {
        "head-only",
        "first-n-stages:n=2",
        "head-only then full at 20%",
    }
    found = judged("status == 'diverged'", sweep)
    assert found["fraction:p=0.5"].outcome == "failed"
    assert found["fraction:p=0.6"].outcome == "passed"


def test_full_that_is_not_done_is_compared_with_nothing() -> None:
    rows = (replace(example().rows[0], status="running"), *example().rows[1:])
    found = judged("accuracy < full - 0.01", replace(example(), rows=rows))["head-only"]
    assert (found.outcome, "full is not trained to its end" in found.reason) == ("unclear", True)


def test_a_baseline_is_paired_where_the_images_are_the_same() -> None:
    old, new = example(), example(shift=-0.1)
    text = "accuracy < baseline - 0.05"
    found = judged(text, new, old)
    assert "the paired difference to baseline" in found["full"].reason
    assert found["head-only"].outcome == "failed"
    other = replace(old, data=replace(old.data, digest="another"))
    assert "paired" not in judged(text, new, other)["head-only"].reason
    assert judged(text, new, other)["head-only"].outcome == "unclear"
    assert "no row of this name" in judged(text, new, replace(old, rows=()))["full"].reason


def test_gates_that_cannot_be_judged_are_told_before() -> None:
    labels = ["full", "head-only"]
    gates = [read_sweep_gate("accuracy < baseline")]
    with pytest.raises(GateError, match="names a baseline, and there is none; `freezekit compare"):
        check_sweep_gates(gates, labels, has_baseline=False)
    gates = [read_sweep_gate("strategy == 'heat-only' and accuracy < 0.5")]
    with pytest.raises(GateError, match=r"no candidate has that name; .*did you mean 'head-only'"):
        check_sweep_gates(gates, labels, has_baseline=True)
    with pytest.raises(GateError, match="unknown figure 'acuracy', did you mean 'accuracy'"):
        read_sweep_gate("acuracy < 0.5")
    with pytest.raises(GateError, match="bytes cannot be compared with a ratio"):
        read_sweep_gate("accuracy < peak_bytes")
