from __future__ import annotations

import math
import random
from statistics import NormalDist, fmean, median, stdev

import pytest

from freezekit.bench.statistics import (
    Estimate,
    append_block,
    estimate,
    noise_floor,
    summarise,
    verdict,
)
from freezekit.results.records import Control, Raw, StepSeconds

NAMES = ["full", "head-only"]


def a_round(full: float, head: float, control: float | None = None) -> dict[str, list[float]]:
    """One turn each; the first step is far off, as first steps are."""
    control = full if control is None else control
    return {
        "full": [9.0, full, full],
        "head-only": [8.0, head, head],
        "control": [7.0, control, control],
    }


def simulate(
    generator: random.Random, effect: float, blocks: int = 8, instance: float = 0.02
) -> Raw:
    """Steps of a strategy that takes exp(effect) of the baseline's time, and of a control.

    Every instance (a strategy in a block) is persistently off by some 2 %, turns by 2 %, steps by
    1 %: what identical models were measured to do.
    """
    steps = []
    for _ in range(blocks):
        levels = {
            name: (effect if name == "head-only" else 0.0) + generator.gauss(0, instance)
            for name in ("full", "head-only", "control")
        }
        rounds = []
        for _ in range(3):
            turns = {}
            for name, level in levels.items():
                turn = level + generator.gauss(0, 0.02)
                turns[name] = [math.exp(turn + generator.gauss(0, 0.01)) for _ in range(3)]
            rounds.append(turns)
        steps.append(rounds)
    return Raw(steps=steps)


def test_the_estimate_is_worked_out_as_the_protocol_says():
    raw = Raw(
        steps=[
            [a_round(1.0, 0.5), a_round(1.0, 0.4), a_round(2.0, 1.2)],  # 0.5, 0.4, 0.6
            [a_round(1.0, 0.8), a_round(3.0, 2.4), a_round(1.0, 99.0)],  # 0.8, 0.8, 99
        ]
    )
    time = summarise(raw, NAMES).times["head-only"]
    assert time.ratio == pytest.approx(math.sqrt(0.5 * 0.8))
    # Two blocks: mean +- t(1) * sd / sqrt(2) = 12.706 * half the difference.
    half = 12.7062 * abs(math.log(0.8 / 0.5)) / 2
    assert math.log(time.ratio_ci[1] / time.ratio) == pytest.approx(half, rel=1e-4)
    assert math.log(time.ratio_ci[0] / time.ratio) == pytest.approx(-half, rel=1e-4)


def test_the_first_step_of_a_turn_counts_nowhere():
    raw = Raw(steps=[[a_round(1.0, 0.5)] * 3] * 5)
    summary = summarise(raw, NAMES)
    assert summary.times["head-only"].step_seconds == StepSeconds(0.5, 0.5, 0.5)
    assert summary.times["head-only"].ratio == pytest.approx(0.5)


def test_step_seconds_are_quantiles_of_all_other_steps():
    turns = [{"full": [50.0, 2.0 * i + 1, 2.0 * i + 2]} for i in range(5)]  # 1 ... 10
    found = summarise(Raw(steps=[turns]), ["full"]).times["full"].step_seconds
    assert (found.median, found.p10, found.p90) == pytest.approx((5.5, 1.9, 9.1))


def test_the_baseline_is_the_baseline():
    time = summarise(simulate(random.Random(0), 0.0), NAMES).times["full"]
    assert (time.ratio, time.ratio_ci, time.verdict) == (1.0, (1.0, 1.0), "baseline")


def test_a_plain_difference_is_told_in_the_right_direction():
    generator = random.Random(0)
    fast = summarise(simulate(generator, math.log(0.7)), NAMES)
    slow = summarise(simulate(generator, math.log(1.4)), NAMES)
    assert fast.times["head-only"].verdict == "faster"
    assert slow.times["head-only"].verdict == "slower"
    assert fast.times["head-only"].ratio == pytest.approx(0.7, abs=0.03)
    assert fast.control.ratio == pytest.approx(1.0, abs=0.03)
    assert 0 < fast.noise_floor < 0.1


def test_the_noise_floor_is_the_far_end_of_the_controls_interval():
    assert noise_floor(Estimate(1.02, (0.99, 1.05), 8)) == pytest.approx(math.log(1.05))
    assert noise_floor(Estimate(0.98, (0.95, 1.01), 8)) == pytest.approx(-math.log(0.95))
    assert noise_floor(Estimate(1.0, None, 1)) is None


@pytest.mark.parametrize(
    ("ratio", "ci", "floor", "expected"),
    [
        (0.90, (0.88, 0.92), 0.05, "faster"),
        (1.10, (1.08, 1.12), 0.05, "slower"),
        (0.90, (0.80, 1.01), 0.05, "no difference shown"),  # the interval holds 1
        (0.96, (0.95, 0.97), 0.05, "no difference shown"),  # within the noise floor
        (0.90, (0.88, 0.92), None, "no difference shown"),  # nobody knows the noise floor
        (0.90, None, 0.05, "no difference shown"),  # one block
    ],
)
def test_a_verdict_needs_the_interval_and_the_noise_floor(ratio, ci, floor, expected):
    assert verdict(Estimate(ratio, ci, 8), floor) == expected


def test_intervals_cover_the_truth_and_flat_ones_do_not():
    """Over 2000 runs, 95 % +- four standard errors is 93 to 97 %."""
    generator = random.Random(20240)
    effect, runs = math.log(0.9), 2000
    covered = flat = missed_by_control = 0
    for _ in range(runs):
        raw = simulate(generator, effect)
        summary = summarise(raw, NAMES)
        low, high = summary.times["head-only"].ratio_ci
        covered += low <= 0.9 <= high
        missed_by_control += not summary.control.ratio_ci[0] <= 1 <= summary.control.ratio_ci[1]
        flat += flat_interval_covers(raw, effect)
    assert 0.93 <= covered / runs <= 0.97
    assert 0.03 <= missed_by_control / runs <= 0.07
    assert flat / runs < 0.85


def flat_interval_covers(raw: Raw, effect: float) -> bool:
    """Take every pair of steps for independent, as a test on pooled steps does."""
    pairs = [
        math.log(mine / base)
        for rounds in raw.steps
        for turns in rounds
        for mine, base in zip(turns["head-only"][1:], turns["full"][1:], strict=True)
    ]
    half = NormalDist().inv_cdf(0.975) * stdev(pairs) / math.sqrt(len(pairs))
    return abs(fmean(pairs) - effect) <= half


def test_identical_code_is_hardly_ever_called_different():
    generator = random.Random(7)
    claims = [
        summarise(simulate(generator, 0.0), NAMES).times["head-only"].verdict for _ in range(1000)
    ]
    assert 1 - claims.count("no difference shown") / len(claims) < 0.015


def test_a_tenth_is_nearly_always_shown():
    generator = random.Random(8)
    claims = [
        summarise(simulate(generator, math.log(0.9)), NAMES).times["head-only"].verdict
        for _ in range(300)
    ]
    assert claims.count("faster") / len(claims) > 0.95


def test_lean_is_compared_with_stock_round_by_round():
    """Stock full takes 1, 1, 9; stock head-only half of that, the lean one 10, 20, 5 % more."""
    blocks = []
    for extra in (1.0, 1.21):
        rounds = []
        for level, factor in ((1.0, 1.1), (1.0, 1.2), (9.0, 1.05)):
            stock = level / 2
            lean = [9.0, *[stock * factor * extra] * 2]
            rounds.append({**a_round(level, stock), "head-only [lean]": lean})
        blocks.append(rounds)
    names = [*NAMES, "head-only [lean]"]
    times = summarise(Raw(steps=blocks), names, {"head-only [lean]": "head-only"}).times
    lean = times["head-only [lean]"]
    assert lean.ratio_to_stock == pytest.approx(1.1 * 1.1)
    half = 12.7062 * math.log(1.21) / 2
    assert math.log(lean.ratio_to_stock_ci[1] / lean.ratio_to_stock) == pytest.approx(half, 1e-4)
    assert lean.ratio == pytest.approx(1.1 * 1.1 / 2)
    for name in NAMES:
        assert (times[name].ratio_to_stock, times[name].ratio_to_stock_ci) == (None, None)
    assert summarise(Raw(steps=blocks), names).times["head-only [lean]"].ratio_to_stock is None


def test_lean_without_its_stock_row_in_any_block_has_no_ratio_to_it():
    turns = {**without(a_round(1.0, 0.5), "head-only"), "head-only [lean]": [9.0, 0.6, 0.6]}
    names = [*NAMES, "head-only [lean]"]
    summary = summarise(Raw(steps=[[turns]] * 5), names, {"head-only [lean]": "head-only"})
    assert summary.times["head-only [lean]"].ratio_to_stock is None
    assert summary.times["head-only [lean]"].ratio == pytest.approx(0.6)


def test_a_drift_that_hits_all_alike_cancels():
    raw = Raw(
        steps=[[a_round(1.0 + b + r, 0.5 * (1.0 + b + r)) for r in range(3)] for b in range(5)]
    )
    time = summarise(raw, NAMES).times["head-only"]
    assert time.ratio == pytest.approx(0.5)
    assert time.ratio_ci == pytest.approx((0.5, 0.5))


def test_one_block_has_no_interval_and_says_so():
    summary = summarise(Raw(steps=[[a_round(1.0, 0.5)] * 3]), NAMES)
    time = summary.times["head-only"]
    assert (time.ratio, time.ratio_ci) == (pytest.approx(0.5), None)
    assert time.verdict == "no difference shown"
    assert summary.warnings["head-only"] == ("timed in one block only: no interval",)
    assert summary.control == Control(1.0, None)
    assert summary.noise_floor is None


def test_fewer_than_five_blocks_are_stated_once():
    few = summarise(Raw(steps=[[a_round(1.0, 0.5)] * 3] * 3), NAMES)
    assert few.times["head-only"].ratio_ci is not None
    assert few.notes == ("step times rest on 3 blocks only, an interval should have 5 or more",)
    assert few.warnings["head-only"] == ()
    assert summarise(Raw(steps=[[a_round(1.0, 0.5)]] * 5), NAMES).notes == ()


def without(turns: dict[str, list[float]], *names: str) -> dict[str, list[float]]:
    return {name: steps for name, steps in turns.items() if name not in names}


def test_a_strategy_that_fails_halfway_keeps_its_whole_blocks():
    whole, broken = (
        [a_round(1.0, 0.5)] * 3,
        [a_round(1.0, 0.9), without(a_round(1, 1), "head-only")],
    )
    summary = summarise(
        Raw(steps=[whole, whole, broken, [without(a_round(1, 1), "head-only")]]), NAMES
    )
    assert summary.times["head-only"].ratio == pytest.approx(0.5)
    assert summary.warnings["head-only"][0].startswith("timed in 2 blocks only")
    assert summary.warnings["full"] == ()


def test_a_strategy_that_was_never_timed_is_missing():
    raw = Raw(steps=[[without(a_round(1.0, 0.5), "head-only")] * 3] * 5)
    assert list(summarise(raw, NAMES).times) == ["full"]


def test_without_the_baseline_there_are_seconds_and_no_ratios():
    raw = Raw(steps=[[without(a_round(1.0, 0.5), "full", "control")] * 3] * 5)
    summary = summarise(raw, NAMES)
    time = summary.times["head-only"]
    assert time.step_seconds.median == 0.5
    assert (time.ratio, time.ratio_ci, time.verdict) == (None, None, None)
    assert summary.warnings["head-only"] == ("no ratio: 'full' was not measured beside it",)
    assert summary.notes == ("the baseline 'full' was not measured: no ratios of step time",)
    assert summary.control is None


def test_without_the_control_nothing_is_claimed():
    raw = Raw(steps=[[without(a_round(1.0, 0.5), "control")] * 3] * 5)
    summary = summarise(raw, NAMES)
    assert summary.times["head-only"].verdict == "no difference shown"
    assert (summary.control, summary.noise_floor) == (None, None)


def test_nothing_measured_is_said():
    summary = summarise(Raw(), NAMES)
    assert summary.times == {}
    assert summary.notes == ("no block was measured to its end: no step times",)


@pytest.mark.parametrize(("last", "warned"), [(1.04, False), (1.06, True), (0.94, True)])
def test_blocks_that_drift_by_over_a_twentieth_are_flagged(last, warned):
    steady = [a_round(1.0, 0.5)] * 3
    drifting = [a_round(1.0, 0.5), a_round(1.0, 0.5), a_round(1.0, 0.5 * last)]
    summary = summarise(Raw(steps=[steady] * 4 + [drifting]), NAMES)
    assert summary.warnings["full"] == ()
    if warned:
        assert summary.warnings["head-only"] == (
            "not_steady: in some blocks the first and last thirds of the steps differ by over 5%",
        )
    else:
        assert summary.warnings["head-only"] == ()


def test_the_split_is_the_median_over_blocks():
    split = [{"full": {"forward": f, "backward": 2 * f, "optimizer": 0.1}} for f in (1.0, 9.0, 2.0)]
    raw = Raw(steps=[[a_round(1.0, 0.5)]] * 3, split=split)
    summary = summarise(raw, NAMES)
    assert summary.times["full"].split == {"forward": 2.0, "backward": 4.0, "optimizer": 0.1}
    assert summary.times["head-only"].split is None


def test_blocks_are_appended_as_they_come():
    event = {"order": [["full"]], "steps": [{"full": [1.0, 1.0]}], "warmup": {"full": [2.0]}}
    event |= {"split": {}, "fill": {}}
    raw = append_block(append_block(Raw(), event), event)
    assert raw.order == [[["full"]]] * 2
    assert raw.steps == [[{"full": [1.0, 1.0]}]] * 2
    assert raw.warmup == [{"full": [2.0]}] * 2
    assert raw.split == raw.fill == []
    fill = {"head-only [cache]": [2.0, 1.0, 1.0]}
    assert append_block(raw, {**event, "fill": fill}).fill == [fill]


def test_an_interval_agrees_with_scipys():
    from scipy.stats import t

    scores = [0.01, -0.02, 0.03, 0.0, 0.015, -0.01]
    low, high = t.interval(
        0.95, len(scores) - 1, loc=fmean(scores), scale=stdev(scores) / math.sqrt(len(scores))
    )
    assert estimate(scores).ci == pytest.approx((math.exp(low), math.exp(high)))
    assert estimate(scores).ratio != math.exp(median(scores))
