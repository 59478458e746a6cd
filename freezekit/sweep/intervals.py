"""Intervals of accuracies, of their differences, and of costs: pure, and without torch.

A candidate is trained with several seeds and validated on a sample of images. Both are chance: with
other seeds, or with other images of the same kind, its accuracy were another one. So a figure has a
row for each seed and a column for each image, and both have effects (crossed random effects):

    value[s, i] = mean + seed[s] + image[i] + rest[s, i]

`over_seeds_and_images` estimates the mean with an interval that covers both.
docs/explanation/sweep.md explains it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from freezekit.sweep.records import Estimate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Values = NDArray[np.float64]


ROUNDING = 1e-9
"""The part of a figure by which floating point alone may tell equal ones apart."""


def over_seeds_and_images(values: Values, imagined: Sequence[float] = ()) -> Estimate:
    """Return the mean of values with its 95 % interval, over seeds and images.

    The squared half-width is that of a t interval over images, plus that of one over seeds:

        t(I-1)^2 MS_image / SI + t(S-1)^2 MS_seed / SI

    The mean squares are those of a two-way analysis of variance. Such a sum is Howe's (1974). The
    second part is left out where seeds differ by no more than chance: where MS_seed is not above
    MS_rest, which the first part holds too. Two seeds cannot tell that; there the second part
    always stays, and MS_rest is taken out of the first one. A Satterthwaite interval from the same
    mean squares covers less where seeds matter most.

    Args:
        values: (seeds, images).
        imagined: Images with these values for all seeds are added before the interval is made, so
            that images which all agree do not make one of no width: (1, -1) for differences of 0
            and 1 (Bonett and Price 2012), (1, 1, 0, 0) for 0 and 1 (Agresti and Coull 1998). The
            mean is that of the values alone.

    Returns:
        Without ends, where there is one seed only.

    Example:
        >>> values = np.array([[1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]])
        >>> found = over_seeds_and_images(values)
        >>> [round(figure, 3) for figure in (found.value, found.low, found.high)]
        [0.417, -0.251, 1.084]
        >>> over_seeds_and_images(values[:1])
        Estimate(value=0.5, low=None, high=None)
        >>> found = over_seeds_and_images(np.zeros((3, 100)), (1, -1))
        >>> round(found.low, 4), round(found.high, 4)
        (-0.0276, 0.0276)
    """
    value = float(values.mean())
    if len(values) < 2:
        return Estimate(value)
    added = np.tile(np.asarray(imagined, dtype=np.float64), (len(values), 1))
    together = np.concatenate([values, added], axis=1)
    seeds, images = together.shape
    mean, of_seed, of_image = together.mean(), together.mean(axis=1), together.mean(axis=0)
    rest = together - of_seed[:, None] - of_image[None, :] + mean
    by_seeds = float(((of_seed - mean) ** 2).sum()) / (seeds - 1) / seeds
    by_images = float(((of_image - mean) ** 2).sum()) / max(1, images - 1) / images
    by_rest = float((rest**2).sum()) / ((seeds - 1) * max(1, images - 1)) / (seeds * images)
    t_seeds, t_images = student(seeds - 1), student(max(1, images - 1))
    squared = t_images**2 * by_images
    if seeds == 2:
        by_both = t_seeds**2 * by_seeds + t_images**2 * max(by_images - by_rest, 0.0)
        squared = max(squared, by_both)
    elif by_seeds > by_rest:
        squared += t_seeds**2 * by_seeds
    half = math.sqrt(squared)
    return Estimate(value, min(value, float(mean) - half), max(value, float(mean) + half))


def over_seeds(values: Sequence[float]) -> Estimate:
    """Return the mean of one figure for each seed, with its 95 % t interval.

    Returns:
        Without ends, where there is one seed only, or where all seeds have the same figure: figures
        of few steps, such as counts, agree by chance, and an interval of no width claims too much.

    Example:
        >>> found = over_seeds([0.8, 0.9, 0.85])
        >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
        (0.85, 0.726, 0.974)
        >>> over_seeds([-0.05, -0.05])
        Estimate(value=-0.05, low=None, high=None)
    """
    mean = sum(values) / len(values)
    if max(values) - min(values) <= ROUNDING * max(map(abs, values)):
        return Estimate(mean)
    squares = sum((value - mean) ** 2 for value in values)
    half = student(len(values) - 1) * math.sqrt(squares / (len(values) - 1) / len(values))
    return Estimate(mean, mean - half, mean + half)


def ratio_over_seeds(values: Sequence[float], others: Sequence[float]) -> Estimate | None:
    """Return the ratio of two figures paired by seed: the geometric mean, with its interval.

    The interval is a t interval of the logarithms; it has no ends where `over_seeds` gives none.
    None where a figure is 0.

    Example:
        >>> found = ratio_over_seeds([1.0, 1.1, 0.9], [2.0, 2.0, 2.0])
        >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
        (0.498, 0.388, 0.639)
    """
    pairs = list(zip(values, others, strict=True))
    if any(min(pair) <= 0 for pair in pairs):
        return None
    ratios = [value / other for value, other in pairs]
    found = over_seeds([math.log(ratio) for ratio in ratios])
    are_equal = max(ratios) - min(ratios) <= ROUNDING * max(ratios)  # logarithms may be near 0
    if found.low is None or found.high is None or are_equal:
        return Estimate(math.exp(found.value))
    most = math.log(1e300)  # what a record holds; two seeds may tell nothing
    ends = math.exp(max(found.low, -most)), math.exp(min(found.high, most))
    return Estimate(math.exp(found.value), *ends)


def student(degrees: float) -> float:
    """Return the t quantile of a two-sided 95 % interval.

    Example:
        >>> round(student(2), 3)
        4.303
    """
    from scipy.special import stdtrit  # here: it takes a third of a second to import

    return float(stdtrit(degrees, 0.975))
