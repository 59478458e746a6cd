"""`train`: fine-tune a model on the user's own images; a plain loop, to read and to copy from."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from msgspec.structs import replace

from freezekit.cache.fingerprint import weights_digest
from freezekit.cache.samples import spread
from freezekit.data.augmentation import training_preprocessing
from freezekit.data.batches import TensorSamples, train_loader, val_loader
from freezekit.data.loading import load_training_data
from freezekit.errors import TrainingError
from freezekit.plugins.registry import default_registry
from freezekit.training.caching import PrefixCaches
from freezekit.training.checkpoint import Checkpoint, check_untrained, found_for, save_checkpoint
from freezekit.training.evaluation import Evaluated, evaluate
from freezekit.training.facts import facts
from freezekit.training.metrics import find_metrics
from freezekit.training.rate_range import find_rate
from freezekit.training.recipes import checked
from freezekit.training.records import DataFacts, Epoch, Recipe, Trial
from freezekit.training.step_flops import StepFlops
from freezekit.training.surroundings import noting, own_surroundings
from freezekit.training.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from freezekit.data.batches import BatchLoader
    from freezekit.data.training_data import TrainingData
    from freezekit.plugins.metric import Metric
    from freezekit.plugins.registry import Registry


@dataclass(frozen=True)
class Trained:
    """A model that was trained.

    Attributes:
        model: In eval mode, with averaged weights where the recipe has an average.
        trial: The record: figures of each epoch.
        data: What it was trained on.
        preprocessing: How it takes images in an evaluation, in words.
    """

    model: nn.Module
    trial: Trial
    data: DataFacts
    preprocessing: str


def train(
    recipe: Recipe,
    data: str | TrainingData,
    *,
    metrics: Sequence[str] = (),
    checkpoint: str | Path | None = None,
    resume: bool = False,
    until: int | None = None,
    deadline: float | None = None,
    peak_bytes: int | None = None,
    workers: int = 0,
    registry: Registry | None = None,
    on_epoch: Callable[[Trial], object] | None = None,
    on_step: Callable[[int, int], object] | None = None,
) -> Trained:
    """Fine-tune a model on images, and validate it after each epoch.

    Everything follows from the recipe, its seed and the images: the new head, the order of samples,
    augmentation and dropout. On a CPU the same training has the same bits, with any number of
    workers, with or without a cache of the frozen prefix, and after a resume.

    Args:
        recipe: How the training goes.
        data: A folder of class folders or another text that `--data` takes, or what
            `load_training_data` returned.
        metrics: Further figures of a validation: "path/to/file.py:function", from the logits, of
            shape (samples, classes), and the labels, of shape (samples,), to a number.
        checkpoint: A folder, or a URL of object storage that fsspec reads, where the training is
            kept after each epoch.
        resume: Go on from the checkpoint that is there, if any.
        until: Pause after so many epochs; learning rates are those of the whole training.
        deadline: A time as of `time.time()`. The training stops before an epoch that would not end
            by then.
        peak_bytes: What is recorded as the predicted peak of memory; see `predicted_peak`.
        workers: Processes that read images; 0: this one.
        registry: Of strategies, schedules and metrics. The default is all installed plugins.
        on_epoch: Is called with the record after each epoch.
        on_step: Is called after each step, with its number in the epoch and how many there are.

    Returns:
        The model and the record. Its status is "ok" where all epochs are done, "running" at
        `until`, "stopped" at the deadline, and "diverged" where the loss was no finite number: the
        model is then as this found it.

    Raises:
        TrainingError: The recipe has a value that cannot be, a metric is unknown, or the checkpoint
            is of another training, exists without `resume`, or cannot be read or written.
        DataError: The images cannot be read.
        FreezekitError: The model cannot be built, or the strategy refuses it.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from freezekit import Recipe, train
        >>> with tempfile.TemporaryDirectory() as photos:
        ...     for number in range(8):
        ...         path = Path(photos) / ("dark" if number < 4 else "light") / f"{number}.png"
        ...         path.parent.mkdir(exist_ok=True)
        ...         Image.new("RGB", (32, 32), (25 * number,) * 3).save(path)
        ...     recipe = Recipe("timm:test_resnet", "head-only", epochs=2, image_size=32)
        ...     done = train(recipe, photos)
        >>> done.trial.status, len(done.trial.epochs), sorted(done.trial.epochs[-1].val)
        ('ok', 2, ['accuracy', 'balanced_accuracy', 'loss'])
    """
    recipe, registry = checked(recipe), registry or default_registry()
    known = find_metrics(metrics, registry)
    images = load_training_data(data) if isinstance(data, str) else data
    place = None if checkpoint is None else str(checkpoint)
    kept = None if place is None else found_for(recipe, images.digest, place, resume=resume)
    trial = Trial(recipe) if kept is None else replace(kept.trial, resumed=kept.trial.resumed + 1)
    notes = list(trial.notes)
    with own_surroundings(recipe.threads, recipe.device), noting(notes):
        lr = trial.lr or recipe.lr
        lr = find_rate(recipe, images, registry) if isinstance(lr, str) else lr
        run = _Run(recipe, lr, images, known, registry, workers)
        if kept is not None:
            run.go_on(kept, str(place))
        if trial.status in ("running", "stopped"):
            trial = replace(trial, status="running", error=None, lr=lr)
        trial = replace(trial, peak_bytes=peak_bytes or trial.peak_bytes)
        longest = 0.0
        while trial.status == "running" and len(trial.epochs) < (until or recipe.epochs):
            begin = time.time()
            if deadline is not None and begin + longest > deadline:
                trial = replace(trial, status="stopped", error="the next epoch would end too late")
            else:
                trial = run.epoch(trial, on_step)
            longest = max(longest, time.time() - begin)
            told = tuple(dict.fromkeys((*notes, *run.notes)))
            trial = replace(trial, notes=told)
            if place is not None:
                save_checkpoint(place, run.kept(trial))
            if on_epoch is not None:
                on_epoch(trial)
        run.end()
    return Trained(run.trainer.model, trial, facts(images), run.trainer.preprocessing.text)


class _Run:
    """A training in this process."""

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
        self.trainer = Trainer(recipe, lr, len(data.classes), steps, registry)
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
        if kept.state["has_features"]:
            self._caches.refill_train()

    def kept(self, trial: Trial) -> Checkpoint:
        """Return what a resumed training needs."""
        state = {
            "trainer": self.trainer.state_dict(),
            "counted": list(self._counted),
            "has_features": self._caches.has_train_features,
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
