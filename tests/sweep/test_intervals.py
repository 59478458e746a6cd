"""Intervals over seeds and images: against plain formulas, edges, and how often they are right."""

from __future__ import annotations

import base64
import math

import numpy as np
import pytest
from scipy import stats

from freezekit.sweep.comparing import (
    difference,
    excludes_zero,
    image_weights,
    metric_of,
    right_images,
)
from freezekit.sweep.intervals import over_seeds, over_seeds_and_images, ratio_over_seeds
from freezekit.sweep.records import Estimate
from freezekit.training.records import Epoch, Recipe, Trial


def trial(right: list[int], seed: int = 0, **val: float) -> Trial:
    bits = base64.b64encode(np.packbits(np.array(right, bool)).tobytes()).decode()
    val = {"accuracy": sum(right) / len(right), **val}
    epoch = Epoch(1, 1.0, 1e-3, val, 1.0, 0.1)
    return Trial(Recipe("m", "full", 1, seed=seed), "ok", epochs=(epoch,), correct=bits)


@pytest.mark.parametrize(
    ("rows", "seeds_matter"),
    [
        ([[1, 0, 1, 0, 1], [1, 0, 0, 0, 1], [1, 1, 0, 0, 0]], False),
        ([[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [0, 0, 0, 0, 0]], True),
    ],
)
def test_the_half_width_is_that_of_the_formula(rows: list[list[int]], seeds_matter: bool):
    values = np.array(rows, float)
    seeds, images = values.shape
    mean = sum(map(sum, values)) / (seeds * images)
    of_seed = [sum(row) / images for row in values]
    of_image = [sum(row[i] for row in values) / seeds for i in range(images)]
    ms_seed = images * sum((x - mean) ** 2 for x in of_seed) / (seeds - 1)
    ms_image = seeds * sum((x - mean) ** 2 for x in of_image) / (images - 1)
    ms_rest = sum(
        (values[s][i] - of_seed[s] - of_image[i] + mean) ** 2
        for s in range(seeds)
        for i in range(images)
    ) / ((seeds - 1) * (images - 1))
    t_seeds, t_images = stats.t.ppf(0.975, seeds - 1), stats.t.ppf(0.975, images - 1)
    assert bool(ms_seed > ms_rest) is seeds_matter
    squared = t_images**2 * ms_image + (t_seeds**2 * ms_seed if seeds_matter else 0)
    half = math.sqrt(squared / (seeds * images))
    found = over_seeds_and_images(values)
    assert found.value == pytest.approx(mean)
    assert found.high == pytest.approx(mean + half)
    assert found.low == pytest.approx(mean - half)


def test_it_is_never_less_than_a_t_interval_over_images():
    draws = np.random.default_rng(0)
    for seeds in (2, 3, 5):
        values = draws.integers(0, 2, (seeds, 20)).astype(float)
        half = stats.t.ppf(0.975, 19) * stats.sem(values.mean(axis=0))
        found = over_seeds_and_images(values)
        assert found.high - found.value >= half - 1e-12


def test_of_two_seeds_it_is_never_less_than_a_t_interval_over_them():
    draws = np.random.default_rng(0)
    for _ in range(50):
        values = draws.integers(0, 2, (2, 20)).astype(float)
        half = stats.t.ppf(0.975, 1) * stats.sem(values.mean(axis=1))
        found = over_seeds_and_images(values)
        assert found.high - found.value >= half - 1e-12


def test_one_seed_has_no_interval():
    assert over_seeds_and_images(np.ones((1, 5))) == Estimate(1.0)
    assert over_seeds([0.5]) == Estimate(0.5)
    assert ratio_over_seeds([1.0], [2.0]).low is None
    assert not excludes_zero(Estimate(0.5))


@pytest.mark.parametrize("images", [1, 2, 50])
def test_where_all_is_right_the_interval_has_a_width(images: int):
    trials = [trial([1] * images, seed) for seed in range(3)]
    labels = [0] * images
    found = metric_of(trials, "accuracy", labels)
    assert (found.value, found.high) == (1.0, 1.0)
    assert 0 <= found.low < 1
    same = difference(trials, trials, "accuracy", labels)
    assert same.value == 0
    assert same.low == -same.high < 0


def test_a_difference_is_tighter_than_both_figures():
    draws = np.random.default_rng(0)
    level = draws.random(300)

    def trials(quality: float) -> list[Trial]:
        noise = [np.random.default_rng(seed).normal(0, 0.02, 300) for seed in range(3)]
        return [trial(list(map(int, level + n < quality)), s) for s, n in enumerate(noise)]

    better, worse, labels = trials(0.8), trials(0.75), [0] * 300
    paired = difference(better, worse, "accuracy", labels)
    alone = metric_of(better, "accuracy", labels)
    assert paired.high - paired.low < 0.7 * (alone.high - alone.low)
    assert excludes_zero(paired)


def test_balanced_accuracy_weighs_classes_alike():
    labels = [0, 0, 0, 1]
    trials = [trial([1, 1, 1, 0], seed, balanced_accuracy=0.5) for seed in range(2)]
    assert metric_of(trials, "balanced_accuracy", labels).value == pytest.approx(0.5)
    assert image_weights("balanced_accuracy", labels).mean() == pytest.approx(1)


def test_seeds_that_agree_give_no_interval():
    """Differences of 0.3 - 0.25 and 0.2 - 0.15 are equal but for their last bits."""
    for values in ([-0.05, -0.05], [0.0, 0.0, 0.0], [0.3 - 0.25, 0.2 - 0.15]):
        found = over_seeds(values)
        assert (found.low, found.high) == (None, None)
        assert not excludes_zero(found)
    assert ratio_over_seeds([1.0, 2.0], [2.0, 4.0]) == Estimate(0.5)
    assert ratio_over_seeds([1.1, 2.2], [1.1 + 1e-15, 2.2]).low is None


def test_other_metrics_have_an_interval_over_seeds():
    one = [trial([1, 0], seed, f1=0.5 + 0.1 * seed) for seed in range(3)]
    other = [trial([1, 0], seed, f1=0.3) for seed in range(3)]
    found = difference(one, other, "f1", [0, 1])
    assert found == over_seeds([one[s].epochs[-1].val["f1"] - 0.3 for s in range(3)])


def test_a_metric_that_a_trial_lacks_is_not_compared():
    one, other = [trial([1, 0], 0), trial([1, 0], 1)], [trial([1, 0], 0), trial([1, 0], 1)]
    assert metric_of(one, "f1", [0, 1]) is None
    assert difference(one, other, "f1", [0, 1]) is None
    assert difference(one, [], "accuracy", [0, 1]) is None


def test_only_seeds_of_both_are_compared():
    one, other = (
        [trial([1, 1], seed) for seed in (0, 1, 2)],
        [trial([1, 0], seed) for seed in (2, 1)],
    )
    assert difference(one, other, "accuracy", [0, 1]).value == pytest.approx(0.5)


def test_bits_of_other_images_are_not_read():
    assert right_images(trial([1, 0, 1]), 20) is None
    assert right_images(trial([1] * 9 + [0]), 10).tolist() == [True] * 9 + [False]


@pytest.mark.parametrize(
    ("seeds", "images", "of_seed", "of_image"),
    [(3, 60, 0.3, 2.0), (3, 300, 0.3, 2.0), (5, 300, 1.0, 2.0), (2, 300, 0.3, 2.0)],
)
def test_95_percent_of_the_intervals_hold_the_truth(
    seeds: int, images: int, of_seed: float, of_image: float
):
    """Two candidates on new seeds and new images, many times; the truth is from 10^5 images."""
    draws = np.random.default_rng(5)

    def right(ease: np.ndarray, bias: float, count: int) -> np.ndarray:
        luck = draws.normal(0, of_seed, (count, 1))
        return (draws.logistic(0, 1, (count, ease.size)) < bias + luck + ease).astype(float)

    many = draws.normal(0, of_image, 2_000)
    truth = np.mean([right(many, 2, 50).mean() - right(many, 1.5, 50).mean() for _ in range(40)])
    held = 0
    for _ in range(400):
        ease = draws.normal(0, of_image, images)
        found = over_seeds_and_images(right(ease, 2, seeds) - right(ease, 1.5, seeds), (1, -1))
        held += found.low <= truth <= found.high
    assert held / 400 >= 0.93
