from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter

import pytest

from freezekit.bench.design import Design, block_order, fit_budget, load_warning, orders, refit

NAMES = ["full", "head-only", "batch-norm", "control"]


def test_the_default_is_protocol_v1():
    design = Design()
    assert (design.blocks, design.rounds, design.steps_per_turn, design.warmup) == (8, 3, 3, 3)
    assert design.cut is None


@pytest.mark.parametrize("field", ["blocks", "rounds", "warmup"])
def test_a_design_that_measures_nothing_is_refused(field):
    with pytest.raises(ValueError, match=f"{field} is 0, expected at least 1"):
        Design(**{field: 0})


def test_a_turn_has_a_step_left_after_the_discarded_one():
    with pytest.raises(ValueError, match="steps_per_turn is 1, expected at least 2"):
        Design(steps_per_turn=1)


def test_every_round_gives_each_strategy_one_turn():
    for block in orders(Design(), NAMES, seed=3):
        assert len(block.rounds) == 3
        for names in (block.build, *block.rounds):
            assert sorted(names) == sorted(NAMES)


def test_orders_are_repeatable_and_differ_between_seeds_and_blocks():
    assert orders(Design(), NAMES, seed=3) == orders(Design(), NAMES, seed=3)
    assert orders(Design(), NAMES, seed=3) != orders(Design(), NAMES, seed=4)
    assert len(set(orders(Design(), NAMES, seed=3))) == 8


def test_fewer_blocks_or_rounds_leave_the_rest_as_it_was():
    whole, cut = orders(Design(), NAMES, 0), orders(Design(blocks=5, rounds=1), NAMES, 0)
    assert [b.build for b in cut] == [b.build for b in whole[:5]]
    assert [b.rounds for b in cut] == [b.rounds[:1] for b in whole[:5]]


def test_each_strategy_comes_first_and_follows_each_other_about_equally_often():
    rounds = [r for b in range(400) for r in block_order(NAMES, b, seed=0).rounds]
    first = Counter(r[0] for r in rounds)
    follows = Counter(pair for r in rounds for pair in itertools.pairwise(r))
    assert len(follows) == 12
    # Expected 300 each; the bounds are over four standard deviations away.
    assert all(235 < n < 365 for n in (*first.values(), *follows.values()))


# One block of three rounds takes 4 + 3 * 2 = 10 s.
@pytest.mark.parametrize(
    ("budget", "blocks", "rounds"),
    [
        (1000, 8, 3),
        (80, 8, 3),
        (79, 7, 3),
        (50, 5, 3),
        (49, 6, 2),  # a round less leaves time for a block more
        (40, 5, 2),
        (39, 6, 1),
        (30, 5, 1),
        (1, 5, 1),
    ],
)
def test_a_budget_cuts_blocks_first_then_rounds(budget, blocks, rounds):
    design = fit_budget(setup_seconds=4, round_seconds=2, budget_seconds=budget)
    assert (design.blocks, design.rounds) == (blocks, rounds)
    assert design.expected_seconds == blocks * (4 + 2 * rounds)
    assert design.expected_seconds <= max(budget, 30)


def test_a_budget_counts_what_was_spent_before():
    design = fit_budget(4, 2, budget_seconds=80, overhead_seconds=10)
    assert (design.blocks, design.expected_seconds) == (7, 80)
    assert refit(design, [10.0]).blocks == 7
    assert refit(design, [9.9]).blocks == 7
    assert refit(design, [8.75]).blocks == 8


def test_what_was_cut_is_recorded_in_words_and_numbers():
    record = fit_budget(4, 2, budget_seconds=49, warmup=10).record()
    assert record["cut"] == "to fit 49 s, 6 blocks instead of 8 and 2 rounds instead of 3"
    assert (record["blocks_cut"], record["rounds_cut"]) == (2, 1)
    assert (record["blocks"], record["rounds"], record["warmup"]) == (6, 2, 10)
    assert (record["budget_seconds"], record["expected_seconds"]) == (49, 48)
    assert fit_budget(4, 2, budget_seconds=100).record()["cut"] is None


def test_a_budget_too_small_for_the_least_design_says_so():
    assert fit_budget(4, 2, budget_seconds=10).cut == (
        "to come near 10 s, 5 blocks instead of 8 and 1 round instead of 3; it takes about 30 s"
    )


def test_what_is_said_of_a_budget_is_what_was_asked_and_what_the_whole_run_takes():
    spent = fit_budget(0.4, 0.2, budget_seconds=2, overhead_seconds=3.2, least_seconds=5)
    assert (spent.blocks, spent.rounds) == (5, 3)
    assert spent.cut == (
        "to come near 2 s, 5 blocks instead of 8; it takes about 8 s, 3 s of them before the first "
        "block"
    )
    assert refit(spent, [2.0]).blocks == 5
    assert refit(spent, [0.6]).blocks == 8
    tight = fit_budget(0.4, 0.2, budget_seconds=75, overhead_seconds=69.5, least_seconds=5)
    assert tight.cut == "to fit 75 s, 5 blocks instead of 8"
    assert fit_budget(0.1, 0.1, budget_seconds=2, overhead_seconds=3, least_seconds=5).cut is None


def test_refit_never_goes_below_five_blocks_or_what_is_done_nor_above_eight():
    design = fit_budget(4, 2, budget_seconds=60)
    assert design.blocks == 6
    assert refit(design, []) == design
    assert refit(design, [1000.0]).blocks == 5
    assert refit(design, [0.1]).blocks == 8
    assert refit(design, [10.0] * 6).blocks == 6
    assert refit(design, [12.0] * 5).blocks == 5
    assert refit(design, [30.0]).expected_seconds == 150


def test_refit_leaves_a_design_without_a_budget_alone():
    assert refit(Design(blocks=2), [1000.0]) == Design(blocks=2)


@pytest.mark.parametrize(
    ("threads", "load", "cores", "advice"),
    [
        (2, 0.1, 2, None),
        (1, 1.2, 2, None),
        (2, 1.6, 2, "use --threads 1"),
        (8, 3.0, 8, "use --threads 5"),
        (1, 2.0, 2, "use a machine at rest"),
        (4, 0.0, 2, "use --threads 2"),
    ],
)
def test_threads_beyond_the_free_cores_are_warned_of(threads, load, cores, advice):
    text = load_warning(threads, load, cores)
    if advice is None:
        assert text is None
    else:
        assert text.startswith(
            f"{threads} thread{'s' * (threads > 1)} on {cores} cores under a load"
        )
        assert f"load of {load:.1f}: step times will not be reliable" in text
        assert text.endswith(advice)


def test_the_parent_side_needs_no_torch():
    code = (
        "import sys, freezekit.bench.design, freezekit.bench.statistics; "
        "print(sorted({'torch', 'scipy', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
