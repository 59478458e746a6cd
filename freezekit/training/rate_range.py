"""A learning rate by a short range test, in place of one that the user gives.

The rate rises from very low to very high within some steps of a training of its own. At first the
loss falls slowly, then fast; then it rises, and the training diverges. The rate is a tenth of that
with the least loss: so far from divergence that warm-up and cosine stay on the safe side.

Source: L. N. Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017
(arXiv:1506.01186), section 3.3. The end and the tenth are those of fastai's `lr_find`.
"""

from __future__ import annotations

import math
from itertools import chain
from typing import TYPE_CHECKING

from freezekit.data.augmentation import training_preprocessing
from freezekit.data.batches import train_loader
from freezekit.training.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from freezekit.data.training_data import TrainingData
    from freezekit.plugins.registry import Registry
    from freezekit.training.records import Recipe

STEPS = 60
LOWEST, HIGHEST = 1e-6, 1.0
SMOOTHING = 0.9
"""Of the loss: an average of some ten steps."""

DIVERGED = 4.0
"""The test ends where the loss is so many times the least."""


def find_rate(recipe: Recipe, data: TrainingData, registry: Registry) -> float:
    """Return a learning rate for a recipe; its training begins from the same weights as the test.

    The same recipe, images and seed give the same rate. With a schedule, the plan of the test is
    that of the recipe's strategy.

    Args:
        recipe: Its `lr` is not used.
        data: The images; those of the validation are not used.
        registry: Of strategies.
    """
    trainer = Trainer(recipe, LOWEST, len(data.classes), STEPS, registry)
    transform = training_preprocessing(trainer.preprocessing, recipe.augment)
    loaders = (
        train_loader(
            data, transform, batch_size=recipe.batch_size, seed=recipe.seed, epoch=-epoch
        )  # other epochs than those of the training
        for epoch in range(STEPS)
    )
    rates = [LOWEST * (HIGHEST / LOWEST) ** (step / (STEPS - 1)) for step in range(STEPS)]
    losses: list[float] = []
    for rate, (images, labels) in zip(rates, chain.from_iterable(loaders), strict=False):
        for group in trainer.optimizer.param_groups:
            group["lr"] = rate * group["freezekit_lr_multiplier"]
        losses.append(trainer.step(images, labels))
        smooth = smoothed(losses)
        if not math.isfinite(losses[-1]) or smooth[-1] > DIVERGED * min(smooth):
            break
    return chosen(rates, losses)


def chosen(rates: Sequence[float], losses: Sequence[float]) -> float:
    """Return a tenth of the rate with the least smoothed loss.

    Args:
        rates: Rising.
        losses: Of the first of these rates, up to where the test ended.

    Example:
        >>> chosen([1e-4, 1e-3, 1e-2, 1e-1, 1], [2.0, 1.9, 1.5, 1.4, 30.0])
        0.01
    """
    finite = [loss for loss in smoothed(losses) if math.isfinite(loss)]
    if not finite:
        return LOWEST
    return max(rates[finite.index(min(finite))] / 10, LOWEST)


def smoothed(losses: Iterable[float]) -> list[float]:
    """Return exponential averages, without a pull to 0 at the beginning.

    Example:
        >>> [round(loss, 2) for loss in smoothed([2.0, 2.0, 1.0])]
        [2.0, 2.0, 1.63]
    """
    average, found = 0.0, []
    for number, loss in enumerate(losses, 1):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        found.append(average / (1 - SMOOTHING**number))
    return found
