"""`train`: fine-tune a model on the user's own images; a plain loop, to read and to copy from."""

from __future__ import annotations

import time
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING

from msgspec.structs import replace

from freezekit.data.loading import load_training_data
from freezekit.errors import TrainingError
from freezekit.plugins.registering import default_registry
from freezekit.training.checkpoint import found_for, save_checkpoint
from freezekit.training.facts import facts
from freezekit.training.metrics import find_metrics
from freezekit.training.rate_range import find_rate
from freezekit.training.recipes import checked
from freezekit.training.records import DataFacts, Recipe, Trial
from freezekit.training.session import TrainingSession
from freezekit.training.storage import check_place
from freezekit.training.surroundings import noting, own_surroundings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import nn

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
    data: str | PathLike[str] | TrainingData,
    *,
    metrics: str | Sequence[str] = (),
    checkpoint: str | Path | None = None,
    resume: bool = False,
    until: int | None = None,
    deadline: float | None = None,
    epoch_seconds: float = 0.0,
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
            shape (samples, classes), and the labels, of shape (samples,), to a number. One text, or
            several.
        checkpoint: A folder, or a URL of object storage that fsspec reads, where the training is
            kept after each epoch.
        resume: Go on from the checkpoint that is there, if any.
        until: Pause after so many epochs; learning rates are those of the whole training.
        deadline: A time as of `time.time()`. The training stops before an epoch that would not end
            by then, if it takes as long as the longest one before.
        epoch_seconds: What the first epoch is expected to take, for `deadline`.
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
        TrainingError: The recipe, `until` or `resume` has a value that cannot be, a metric is
            unknown, or the checkpoint is of another training, exists without `resume`, or cannot be
            read or written; a place that cannot be written to is told before the training.
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
    registry = registry or default_registry()
    recipe = checked(recipe, registry)
    if until is not None and until < 1:
        raise TrainingError(f"until is {until}, expected a number of epochs from 1, or None")
    if resume and checkpoint is None:
        raise TrainingError("resume goes on from a checkpoint: give checkpoint=FOLDER too")
    known = find_metrics(metrics, registry)
    place = None if checkpoint is None else str(checkpoint)
    if place is not None:
        check_place(place)  # an epoch may take hours
    images = load_training_data(str(data)) if isinstance(data, str | PathLike) else data
    kept = None if place is None else found_for(recipe, images.digest, place, resume=resume)
    trial = Trial(recipe) if kept is None else replace(kept.trial, resumed=kept.trial.resumed + 1)
    trial = replace(trial, notes=(*trial.notes, *_notes_of_new(known, trial)))
    notes = list(trial.notes)
    with own_surroundings(recipe.threads, recipe.device), noting(notes):
        lr = trial.lr or recipe.lr
        lr = find_rate(recipe, images, registry) if isinstance(lr, str) else lr
        run = TrainingSession(recipe, lr, images, known, registry, workers)
        if kept is not None:
            run.go_on(kept, str(place))
        if trial.status in ("running", "stopped"):
            trial = replace(trial, status="running", error=None, lr=lr)
        trial = replace(trial, peak_bytes=peak_bytes or trial.peak_bytes)
        took = [epoch.train_seconds + epoch.val_seconds for epoch in trial.epochs]
        while trial.status == "running" and len(trial.epochs) < (until or recipe.epochs):
            begin = time.time()
            if deadline is not None and begin + max(took, default=epoch_seconds) > deadline:
                trial = replace(trial, status="stopped", error="the next epoch would end too late")
            else:
                trial = run.epoch(trial, on_step)
            took.append(time.time() - begin)
            told = tuple(dict.fromkeys((*notes, *run.notes)))
            trial = replace(trial, notes=told)
            if place is not None:
                save_checkpoint(place, run.kept(trial))
            if on_epoch is not None:
                on_epoch(trial)
        run.end()
    return Trained(run.trainer.model, trial, facts(images), run.trainer.preprocessing.text)


def _notes_of_new(metrics: Sequence[Metric], trial: Trial) -> list[str]:
    """Return a sentence for each metric that was not asked for in the epochs that are done."""
    done = len(trial.epochs)
    if not done:
        return []
    before = "epoch 1 was" if done == 1 else f"epochs 1 to {done} were"
    ended = trial.status not in ("running", "stopped")
    when = ", and the training has ended" if ended else f"; it has values from epoch {done + 1} on"
    return [
        f"the metric {metric.name!r} is new: {before} validated without it{when}"
        for metric in metrics
        if metric.name not in trial.epochs[-1].val
    ]
