"""A training as it is kept: after each epoch, whole, so that it goes on with the same bits.

What is the same in a new process is not kept: parameters that are never trained come from the
model's own weights. Their digest is kept, and other weights are refused.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import torch

from freezekit.cache.fingerprint import weights_digest
from freezekit.errors import TrainingError
from freezekit.training.records import Recipe, Trial
from freezekit.training.storage import inside, read, remedy, write

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

NAME = "checkpoint.pt"
VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """A training as it was kept.

    Attributes:
        trial: The record so far.
        data: The digest of its images.
        state: Of the trainer and the loop; None once the training has ended.
        untrained: The digest of the parameters that were never trained.
    """

    trial: Trial
    data: str
    state: dict[str, Any] | None  # Any: what torch.save holds
    untrained: str = ""

    def is_of(self, recipe: Recipe, data: str) -> bool:
        """Tell whether it is of a training with this recipe and the digest of these images."""
        return self.trial.recipe == recipe and self.data == data


def save_checkpoint(place: str, kept: Checkpoint) -> None:
    """Write a checkpoint; one that was there before stays until this one is whole.

    Args:
        place: A folder, or a URL of object storage.
        kept: What is kept.

    Raises:
        TrainingError: It cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(
        {
            "version": VERSION,
            "trial": msgspec.json.encode(kept.trial).decode(),
            "data": kept.data,
            "untrained": kept.untrained,
            "state": kept.state,
        },
        buffer,
    )
    try:
        write(place, NAME, buffer.getvalue())
    except TrainingError as error:
        done = len(kept.trial.epochs)
        before = f"epochs 1 to {done - 1} are" if done > 1 else "no epoch is"
        raise TrainingError(
            f"the checkpoint of epoch {done} cannot be kept: {error}. There, {before} kept; "
            f"{remedy(error, 'make the place writable')}, and go on from it"
        ) from error


def find_checkpoint(place: str) -> Checkpoint | None:
    """Return the checkpoint of a place; None where there is none.

    Raises:
        TrainingError: It cannot be read, or another version of freezekit wrote it.
    """
    data = read(place, NAME)
    if data is None:
        return None
    where = repr(inside(place, NAME))
    try:
        found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        version = found["version"]
        trial = msgspec.json.decode(found["trial"], type=Trial) if version == VERSION else None
    except Exception as error:  # torch raises errors of many kinds
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise TrainingError(
            f"the checkpoint {where} is damaged ({said:.120}); remove it, and begin anew"
        ) from error
    if trial is None:
        raise TrainingError(
            f"the checkpoint {where} has version {version}, expected {VERSION}: another freezekit "
            "wrote it; give another folder"
        )
    return Checkpoint(trial, found["data"], found["state"], found["untrained"])


def found_for(recipe: Recipe, data: str, place: str, *, resume: bool) -> Checkpoint | None:
    """Return the checkpoint of a training; None where it begins.

    Args:
        recipe: Of the training.
        data: The digest of its images.
        place: A folder, or a URL of object storage.
        resume: Whether it may go on.

    Raises:
        TrainingError: There is one of another training, or one without `resume`.
    """
    kept = find_checkpoint(place)
    if kept is None:
        return None
    if not resume:
        done = len(kept.trial.epochs)
        raise TrainingError(
            f"{place!r} holds a checkpoint of {done} epoch(s) already; resume it, or give another "
            "folder"
        )
    ours, theirs = (msgspec.structs.asdict(each) for each in (recipe, kept.trial.recipe))
    other = [
        f"{name} is {theirs[name]!r} there and {ours[name]!r} here"
        for name in ours
        if ours[name] != theirs[name]
    ]
    if kept.data != data:
        other.append("the images or their split are other ones")
    if other:
        raise TrainingError(
            f"the checkpoint in {place!r} is of another training: {'; '.join(other)}. Give "
            "another folder, or the same settings"
        )
    return kept


def check_untrained(kept: Checkpoint, tensors: Mapping[str, Tensor], place: str) -> None:
    """Refuse to go on with a model whose other parameters are not those of before.

    Raises:
        TrainingError: They are not.
    """
    if kept.untrained != weights_digest(tensors):
        raise TrainingError(
            f"the checkpoint in {place!r} was made with other weights in the part that is not "
            "trained: another version of the library or of the model's code gives other ones; "
            "begin anew in another folder"
        )
