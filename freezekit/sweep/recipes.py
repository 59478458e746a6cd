"""The trainings of a sweep: recipes of trials and pilots, and what each is called; no torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import msgspec

from freezekit.sweep.identity import code_digest
from freezekit.sweep.learning_rates import HOLD_OUT, pilot_epochs, pilot_steps
from freezekit.training.records import Augment, CacheChoice, Recipe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from freezekit.sweep.records import Settings, SweepRow


@dataclass(frozen=True)
class Job:
    """A training, up to an epoch.

    Attributes:
        label: Of its row.
        recipe: How it goes.
        until: The epoch after which it waits; with 0, its peak of memory is predicted.
        hold_out: The part of the training images that a pilot is validated on; 0 for a trial.
        code: What its model and its strategy come from: another version may have other bits.
    """

    label: str
    recipe: Recipe
    until: int
    hold_out: float = 0.0
    code: str = ""

    @property
    def is_prediction(self) -> bool:
        """Whether nothing is trained."""
        return self.until == 0

    @property
    def name(self) -> str:
        """What it is called in progress and messages."""
        if self.is_prediction:
            return f"{self.label}, prediction"
        if self.hold_out:
            return f"{self.label}, pilot with lr {self.recipe.lr:g}"
        return f"{self.label}, seed {self.recipe.seed}"


def prediction_job(row: SweepRow, settings: Settings) -> Job:
    """Return the prediction of a row's peak of memory, which no learning rate or seed changes."""
    recipe = _recipe(row, settings, "auto", settings.epochs, settings.seeds[0])
    return Job(row.label, recipe, 0, code=_code(row))


def trial_jobs(row: SweepRow, settings: Settings, until: int) -> tuple[Job, ...]:
    """Return the trials of a row whose learning rate is known, one for each seed."""
    lr = "auto" if row.candidate.lr == "auto" else row.lr
    recipes = [_recipe(row, settings, lr, settings.epochs, seed) for seed in settings.seeds]
    return tuple(Job(row.label, recipe, until, code=_code(row)) for recipe in recipes)


def pilot_jobs(row: SweepRow, settings: Settings, train_samples: int) -> tuple[Job, ...]:
    """Return the pilots of a row, one for each rate of the grid, with the first seed."""
    steps = pilot_steps(train_samples, settings.batch_size)
    scheduled = row.candidate.schedule is not None
    epochs = pilot_epochs(settings.epochs, steps, is_scheduled=scheduled)
    recipes = [_recipe(row, settings, lr, epochs, settings.seeds[0]) for lr in settings.lr_grid]
    return tuple(Job(row.label, recipe, epochs, HOLD_OUT, _code(row)) for recipe in recipes)


def digest_of(job: Job, facts: Mapping[str, str]) -> str:
    """Return what tells a training from all others, whatever epoch it is trained to.

    Args:
        job: The training.
        facts: What all trainings depend on: the data, and versions.

    Example:
        >>> from freezekit.training.records import Recipe
        >>> recipe = Recipe("timm:test_vit", "full", 4)
        >>> one, same = Job("full", recipe, 2), Job("timm:test_vit: full", recipe, 4)
        >>> digest_of(one, {"data": "a"}) == digest_of(same, {"data": "a"})
        True
        >>> digest_of(one, {"data": "a"}) == digest_of(one, {"data": "b"})
        False
    """
    known = {
        "recipe": msgspec.to_builtins(job.recipe),
        "hold_out": job.hold_out,
        "code": job.code,
        "facts": dict(sorted(facts.items())),
    }
    return hashlib.sha256(msgspec.json.encode(known, order="sorted")).hexdigest()[:16]


def _code(row: SweepRow) -> str:
    plugin = f"{row.plugin.distribution} {row.plugin.version}" if row.plugin else ""
    return f"{plugin} {code_digest(row.candidate.model)}".strip()


def _recipe(
    row: SweepRow, settings: Settings, lr: float | str | None, epochs: int, seed: int
) -> Recipe:
    known = row.candidate
    return Recipe(
        model=known.model,
        strategy=known.strategy,
        epochs=epochs,
        schedule=known.schedule,
        lean=known.lean,
        lr=cast("float", lr),  # the rate of a row is known before its trials are made
        batch_size=settings.batch_size,
        image_size=known.image_size,
        pretrained=settings.pretrained,
        optimizer=settings.optimizer,
        weight_decay=settings.weight_decay,
        warmup=settings.warmup,
        label_smoothing=settings.label_smoothing,
        ema=settings.ema,
        amp=settings.amp,
        augment=cast("Augment", settings.augment),
        cache=cast("CacheChoice", settings.cache),
        device=settings.device,
        seed=seed,
        threads=settings.threads,
    )
