"""One training as a task of an engine: `run`, from JSON data to JSON data.

It goes on from the checkpoint that its storage has, so that it may run twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from freezekit.data.loading import load_training_data
from freezekit.errors import DataError, FreezekitError
from freezekit.model.out_of_memory import is_out_of_memory
from freezekit.plugins.registering import load_registry
from freezekit.results.records import Count, Natural, Record
from freezekit.training.checkpoint import find_checkpoint
from freezekit.training.facts import hold_out
from freezekit.training.loop import train
from freezekit.training.recipes import checked
from freezekit.training.records import Fraction, Recipe, Trial

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit.data.training_data import TrainingData

JSON = Any  # Any: JSON data
ENDED = ("ok", "diverged")


class DataOptions(Record, frozen=True):
    """The images of a task.

    Attributes:
        text: As `--data` takes it.
        val_fraction, split_seed: Of a split that is made, as in `load_training_data`.
        bad_images: As in `load_training_data`.
        skipped: Images that cannot be read, where an earlier call found them: the task then reads
            no image to find them.
        digest: Of the images, as the one who made the task found them; None to take any.
        hold_out: The part of the training samples that is validated on, in place of the validation
            samples; None for these. `split_seed` chooses it.
    """

    text: str
    val_fraction: Fraction | None = None
    split_seed: int = 0
    bad_images: Literal["error", "skip"] = "error"
    skipped: tuple[str, ...] | None = None
    digest: str | None = None
    hold_out: Fraction | None = None


class TrainingTask(Record, frozen=True):
    """What a task of an engine is given.

    Attributes:
        recipe: How the training goes.
        data: Its images.
        storage: A folder, or a URL of object storage, for its checkpoint alone.
        metrics: As in `train`.
        until: Pause after so many epochs; None for the end.
        deadline: A time as of `time.time()`; the training stops before an epoch that would not end
            by then.
        epoch_seconds: As in `train`.
        peak_bytes: As predicted.
        workers: Processes that read images.
        block: Plugins that are not loaded.
    """

    recipe: Recipe
    data: DataOptions
    storage: str
    metrics: tuple[str, ...] = ()
    until: Natural | None = None
    deadline: float | None = None
    epoch_seconds: float = 0.0
    peak_bytes: Count | None = None
    workers: Count = 0
    block: tuple[str, ...] = ()


def run(argument: JSON, report: Callable[[JSON], object]) -> JSON:
    """Train, and return the record.

    Errors of the training are in the record, with the status "error" or "oom".

    Args:
        argument: A `TrainingTask` as JSON data.
        report: Is called with the record, as JSON data, after each epoch.

    Returns:
        A `Trial` as JSON data.
    """
    task = msgspec.convert(argument, TrainingTask)
    registry = load_registry(task.block)

    def tell(trial: Trial) -> None:
        report(msgspec.to_builtins(trial))

    try:
        task = msgspec.structs.replace(task, recipe=checked(task.recipe, registry))
        data = _loaded(task.data)
        kept = find_checkpoint(task.storage)
        if kept is not None and kept.trial.status in ENDED and kept.is_of(task.recipe, data.digest):
            return msgspec.to_builtins(kept.trial)
        done = train(
            task.recipe,
            data,
            metrics=task.metrics,
            checkpoint=task.storage,
            resume=True,
            until=task.until,
            deadline=task.deadline,
            epoch_seconds=task.epoch_seconds,
            peak_bytes=task.peak_bytes,
            workers=task.workers,
            registry=registry,
            on_epoch=tell,
        )
        trial = done.trial
    except FreezekitError as error:
        trial = _failed(task, "error", error)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        trial = _failed(task, "oom", error)
    return msgspec.to_builtins(trial)


def _loaded(options: DataOptions) -> TrainingData:
    data = load_training_data(
        options.text,
        val_fraction=options.val_fraction,
        split_seed=options.split_seed,
        bad_images=options.bad_images,
        skipped=options.skipped,
    )
    if options.digest not in (None, data.digest):
        raise DataError(
            f"the images of {options.text!r} are not those that the task was made for: they were "
            "changed since, or this host has others; give all hosts the same, and begin anew"
        )
    if options.hold_out is None:
        return data
    return hold_out(data, options.hold_out, options.split_seed)


def _failed(task: TrainingTask, status: Literal["error", "oom"], error: Exception) -> Trial:
    """Return the record of a training that failed, with the epochs that are kept."""
    trial = Trial(task.recipe, peak_bytes=task.peak_bytes)
    try:
        kept = find_checkpoint(task.storage)
    except FreezekitError:
        kept = None
    if kept is not None and kept.trial.recipe == task.recipe:
        trial = kept.trial
    said = " ".join(str(error).split()) or type(error).__name__
    return msgspec.structs.replace(trial, status=status, error=f"{said:.500}")
