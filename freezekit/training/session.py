"""A training in this process: images, caches, counts of FLOPs, and the trainer that they feed."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from msgspec.structs import replace

from freezekit.cache.fingerprint import weights_digest
from freezekit.cache.samples import spread
from freezekit.data.augmentation import training_preprocessing
from freezekit.data.batches import TensorSamples, train_loader, val_loader
from freezekit.errors import TrainingError
from freezekit.training.caching import PrefixCaches
from freezekit.training.checkpoint import Checkpoint, check_untrained
from freezekit.training.evaluation import Evaluated, evaluate
from freezekit.training.records import Epoch, Recipe, Trial
from freezekit.training.step_flops import StepFlops
from freezekit.training.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from freezekit.data.batches import BatchLoader
    from freezekit.data.training_data import TrainingData
    from freezekit.plugins.metric import Metric
    from freezekit.plugins.registry import Registry


class TrainingSession:
    """A training in this process, epoch by epoch.

    Args:
        recipe: How it goes.
        lr: The learning rate after warm-up.
        data: The images.
        metrics: As `find_metrics` returns them.
        registry: Of strategies and schedules.
        workers: Processes that read images; 0: this one.

    Attributes:
        trainer: What is trained.
    """

    def __init__(
        self,
        recipe: Recipe,
        lr: float,
        data: TrainingData,
        metrics: Sequence[Metric],
        registry: Registry,
        workers: int,
    ) -> None:
        self._recipe, self._data, self._metrics, self._workers = recipe, data, metrics, workers
        steps = steps_of_epoch(data, recipe)
        self.trainer: Trainer = Trainer(recipe, lr, len(data.classes), steps, registry)
        own = self.trainer.preprocessing
        self._transform = training_preprocessing(own, recipe.augment)
        self._train = TensorSamples(data.train, self._transform, recipe.seed, 1)
        self._val_loader = val_loader(data, own, batch_size=recipe.batch_size, workers=workers)
        self.trainer.follow(some_images(TensorSamples(data.train, own)))
        self._caches = PrefixCaches(
            self.trainer,
            self._train,
            TensorSamples(data.val, own),
            may_cache_train=recipe.augment == "none",
        )
        self._flops = StepFlops(self.trainer)
        self._notes: list[str] = []
        self._had_features = False  # in the checkpoint: the first epoch takes features again
        self._counted: tuple[str, ...] = ()  # the boundary of the last cache whose filling counted

    @property
    def notes(self) -> tuple[str, ...]:
        """What is worth to be told."""
        more = (self._flops.note,) if self._flops.note else ()
        return (*self._notes, *self._caches.notes, *more)

    def epoch(self, trial: Trial, on_step: Callable[[int, int], object] | None) -> Trial:
        """Train one epoch, validate, and return the record with it."""
        number = len(trial.epochs) + 1
        begin = time.perf_counter()
        left = self._recipe.epochs - number + 1
        self.trainer.model.train()
        if self._had_features:
            self._caches.refill_train()
            self._had_features = False
        else:
            self._caches.fill_train(left)
        total, samples, flops, cached = 0.0, 0, 0.0, False
        loader = self._loader(number, self._transform)
        for step, batch in enumerate(self._caches.train_batches(loader), 1):
            inputs, labels, is_cached = batch
            flops += self._flops_of(*batch)
            loss = self.trainer.step(inputs, labels)
            if not math.isfinite(loss):
                at = f"step {self.trainer.step_number + 1} (epoch {number})"
                return replace(trial, status="diverged", error=f"the loss is {loss} in {at}")
            total, samples = total + loss * len(labels), samples + len(labels)
            cached = cached or is_cached
            if on_step is not None:
                on_step(step, len(loader))
        trained = time.perf_counter()
        found = self._validated(left)
        validated = time.perf_counter()
        if left > 1:
            self.trainer.end_epoch(found.figures)
        ended = time.perf_counter()
        epoch = Epoch(
            number,
            total / samples,
            self.trainer.lr,
            found.figures,
            train_seconds=trained - begin + ended - validated,
            val_seconds=validated - trained,
            flops=None if math.isnan(flops) else round(flops),
            cached=cached,
        )
        trial = replace(trial, epochs=(*trial.epochs, epoch), correct=found.correct)
        if not found.is_finite:
            error = f"outputs of the validation after epoch {number} are not finite"
            return replace(trial, status="diverged", error=error)
        return trial if left > 1 else replace(trial, status="ok")

    def _validated(self, left: int) -> Evaluated:
        trainer = self.trainer
        trainer.model.eval()
        self._caches.fill_val(left)
        with trainer.averaged.in_force() if trainer.averaged else nullcontext():
            found = evaluate(trainer, self._caches.val_batches(self._val_loader), self._metrics)
        self._notes += [note for note in found.notes if note not in self._notes]
        return found

    def _flops_of(self, inputs: Tensor, labels: Tensor, is_cached: bool) -> float:
        """Return the FLOPs of a step, with those of filling where it is the first of a cache."""
        flops = self._flops.of_sample(inputs, labels, cached=is_cached) * len(inputs)
        if is_cached and self._counted != self._caches.boundary:
            self._counted = self._caches.boundary
            of_filling = self._flops.of_filling(inputs, labels, some_images(self._train, 2))
            flops += of_filling * len(self._train)
        return flops

    def go_on(self, kept: Checkpoint, place: str) -> None:
        """Go on from a checkpoint."""
        if kept.state is None:
            raise TrainingError(
                f"the training in {place!r} has ended, and its weights were not kept; give "
                "another folder to train anew"
            )
        self.trainer.load_state_dict(kept.state["trainer"])
        check_untrained(kept, self.trainer.never_trained(), place)
        self._counted = tuple(kept.state["counted"])
        self._had_features = kept.state["has_features"]

    def kept(self, trial: Trial) -> Checkpoint:
        """Return what a resumed training needs."""
        state = {
            "trainer": self.trainer.state_dict(),
            "counted": list(self._counted),
            "has_features": self._had_features or self._caches.has_train_features,
        }
        untrained = weights_digest(self.trainer.never_trained())
        return Checkpoint(trial, self._data.digest, state, untrained)

    def end(self) -> None:
        """Leave the model as it is used."""
        self._caches.close()
        if self.trainer.averaged is not None:
            self.trainer.averaged.put_in_force()
        self.trainer.model.eval()

    def _loader(self, number: int, transform: Callable[[Any], Tensor]) -> BatchLoader:
        return train_loader(
            self._data,
            transform,
            batch_size=self._recipe.batch_size,
            seed=self._recipe.seed,
            epoch=number,
            workers=self._workers,
        )


def steps_of_epoch(data: TrainingData, recipe: Recipe) -> int:
    """Return the optimizer steps of an epoch."""
    options = {"batch_size": recipe.batch_size, "seed": recipe.seed, "epoch": 1}
    return len(train_loader(data, _unread, **options))


def _unread(image: object) -> Tensor:
    raise AssertionError(image)


def some_images(samples: TensorSamples, count: int = 8) -> Tensor:
    """Return a few images from all over a data set, as a batch."""
    return torch.stack([samples[index][0] for index in spread(len(samples), count)])
