"""Who is stopped at a rung, and who never is."""

from __future__ import annotations

import dataclasses

from msgspec.structs import replace

from freezekit.sweep.halving import Standing, hopeless
from freezekit.sweep.records import Settings
from freezekit.training.records import Recipe
from tests.sweep.stand_in import COST, LABELS, answered

SETTINGS = Settings(8, (0, 1, 2))


def standing(strategy: str, seeds=(0, 1, 2), **options) -> Standing:
    trials = tuple(answered(Recipe("m", strategy, 8, seed=seed), 2) for seed in seeds)
    return Standing(strategy, trials, (COST[strategy], COST[strategy]), **options)


ALL = tuple(map(standing, ("full", "first-n-stages:n=2", "head-only", "bias-only")))


def stopped(*standings: Standing, settings: Settings = SETTINGS) -> tuple[str, ...]:
    return hopeless(standings, settings, LABELS)


def test_dear_and_worse_is_hopeless():
    assert stopped(*ALL) == ("bias-only",)


def test_the_order_does_not_matter():
    assert stopped(*reversed(ALL)) == ("bias-only",)


def test_the_front_is_kept_though_it_is_worse():
    assert "head-only" not in stopped(*ALL)
    dear = dataclasses.replace(ALL[2], cost=(200, 200))
    assert stopped(ALL[0], ALL[1], dear, ALL[3]) == ("head-only", "bias-only")


def test_an_unknown_cost_protects():
    unknown = dataclasses.replace(ALL[3], cost=None)
    assert stopped(*ALL[:3], unknown) == ()


def test_baseline_and_schedules_are_kept():
    assert stopped(*ALL[:3], dataclasses.replace(ALL[3], is_kept=True)) == ()


def test_what_is_not_shown_to_be_worse_is_kept():
    same = dataclasses.replace(ALL[0], label="same", cost=(300, 300))
    worse = standing("bias-only")
    assert stopped(ALL[0], ALL[1], same, worse) == ("bias-only",)


def test_with_one_seed_the_rank_decides():
    one = [standing(name, seeds=(0,)) for name in ("full", "first-n-stages:n=2", "bias-only")]
    assert stopped(*one, settings=Settings(8, (0,))) == ("bias-only",)


def test_of_two_none_is_stopped():
    assert stopped(ALL[0], ALL[3]) == ()


def test_a_metric_may_be_better_where_it_is_lower():
    lower = Settings(8, (0, 1, 2), metric="loss", higher_is_better=False)
    assert stopped(*ALL, settings=lower) == ("bias-only",)


def test_seeds_that_agree_show_nothing():
    def agreeing(each: Standing) -> Standing:
        first = each.trials[0]
        trials = tuple(replace(trial, epochs=first.epochs) for trial in each.trials)
        return dataclasses.replace(each, trials=trials)

    lower = Settings(8, (0, 1, 2), metric="loss", higher_is_better=False)
    assert stopped(*map(agreeing, ALL), settings=lower) == ()
