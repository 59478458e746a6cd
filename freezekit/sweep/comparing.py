"""The figures of candidates from the bits of their trials, and differences between candidates."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import numpy as np

from freezekit.sweep.intervals import over_seeds, over_seeds_and_images
from freezekit.sweep.records import Estimate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from freezekit.training.records import Trial

    Values = NDArray[np.float64]

BY_IMAGE = ("accuracy", "balanced_accuracy")
"""Metrics that are a mean over images. Of all others, each trial has one figure."""


def right_images(trial: Trial, images: int) -> NDArray[np.bool_] | None:
    """Return whether each validation image was right at the trial's last epoch.

    Args:
        trial: With its bits; without them, or with fewer than images, the answer is None.
        images: How many there are.

    Example:
        >>> from freezekit.training.records import Recipe, Trial
        >>> trial = Trial(Recipe("timm:test_vit", "full", 1), correct="oA==")
        >>> right_images(trial, 3)
        array([ True, False,  True])
    """
    if trial.correct is None:
        return None
    packed = np.frombuffer(base64.b64decode(trial.correct), dtype=np.uint8)
    if packed.size * 8 < images:
        return None
    return np.unpackbits(packed, count=images).astype(np.bool_)


def image_weights(metric: str, labels: Sequence[int]) -> Values | None:
    """Return the weight of each image in a metric, 1 on average; None if it is not one of images.

    Example:
        >>> image_weights("balanced_accuracy", [0, 0, 0, 1])
        array([0.66666667, 0.66666667, 0.66666667, 2.        ])
        >>> image_weights("f1", [0, 1]) is None
        True
    """
    if metric not in BY_IMAGE or not labels:
        return None
    if metric == "accuracy":
        return np.ones(len(labels))
    _, of_image, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return np.asarray(len(labels) / (len(counts) * counts[of_image]), dtype=np.float64)


def metric_of(trials: Sequence[Trial], metric: str, labels: Sequence[int]) -> Estimate | None:
    """Return the metric of a candidate's trials, at their last epoch; None where one lacks it.

    Accuracy and balanced accuracy have an interval over seeds and images, others over seeds.
    """
    figures = [last_figure(trial, metric) for trial in trials]
    known = [figure for figure in figures if figure is not None]
    if not known or len(known) < len(figures):
        return None
    values = _by_image(trials, metric, labels)
    if values is None:
        return over_seeds(known)
    found = over_seeds_and_images(values, (1, 1, 0, 0))
    return _within(found, 0, 1)


def difference(
    trials: Sequence[Trial], others: Sequence[Trial], metric: str, labels: Sequence[int]
) -> Estimate | None:
    """Return the metric of trials minus that of others, paired by seed and by image.

    Args:
        trials: Of a candidate.
        others: Of another one. Only seeds that both have are compared.
        metric: Its name.
        labels: Of the validation images.

    Returns:
        None where no seed has the metric in both.
    """
    pairs = paired_by_seed(trials, others)
    figures = [(last_figure(a, metric), last_figure(b, metric)) for a, b in pairs]
    known = [a - b for a, b in figures if a is not None and b is not None]
    if not known or len(known) < len(figures):
        return None
    values = _by_image([a for a, _ in pairs], metric, labels)
    minus = _by_image([b for _, b in pairs], metric, labels)
    if values is None or minus is None:
        return over_seeds(known)
    return _within(over_seeds_and_images(values - minus, (1, -1)), -1, 1)


def paired_by_seed(trials: Sequence[Trial], others: Sequence[Trial]) -> list[tuple[Trial, Trial]]:
    """Return the trials of two candidates that have the same seed."""
    by_seed = {trial.recipe.seed: trial for trial in others}
    both = [trial for trial in trials if trial.recipe.seed in by_seed]
    return [(trial, by_seed[trial.recipe.seed]) for trial in both]


def last_figure(trial: Trial, metric: str) -> float | None:
    """Return a figure of a trial's last epoch."""
    return trial.epochs[-1].val.get(metric) if trial.epochs else None


def excludes_zero(found: Estimate | None) -> bool:
    """Return whether a difference is shown: only an interval can do so.

    Example:
        >>> excludes_zero(Estimate(0.1, 0.0, 0.2)), excludes_zero(Estimate(0.1))
        (False, False)
        >>> excludes_zero(Estimate(0.1, 0.05, 0.2))
        True
    """
    if found is None or found.low is None or found.high is None:
        return False
    return found.low > 0 or found.high < 0


def _by_image(trials: Sequence[Trial], metric: str, labels: Sequence[int]) -> Values | None:
    weights = image_weights(metric, labels)
    if weights is None:
        return None
    rows = [right_images(trial, len(labels)) for trial in trials]
    if any(row is None for row in rows):
        return None
    return np.stack([row * weights for row in rows if row is not None])


def _within(found: Estimate, least: float, most: float) -> Estimate:
    if found.low is None or found.high is None:
        return found
    return Estimate(found.value, max(least, found.low), min(most, found.high))
