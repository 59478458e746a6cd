"""The images of a training as a record, and a part of them held out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from freezekit.data.samples import ChosenSamples
from freezekit.data.splitting import stratified_split
from freezekit.errors import TrainingError
from freezekit.training.records import DataFacts

if TYPE_CHECKING:
    from freezekit.data.training_data import TrainingData


def facts(data: TrainingData) -> DataFacts:
    """Return what a result says of the images.

    Example:
        >>> from pathlib import Path
        >>> from freezekit.data.samples import FileSamples
        >>> from freezekit.data.training_data import TrainingData
        >>> some = FileSamples(Path("photos"), ("a/1.png", "b/1.png"), (0, 1))
        >>> facts(TrainingData("photos", ("a", "b"), some, some, "given", "1f")).val_labels
        (0, 1)
    """
    return DataFacts(
        source=data.source,
        classes=data.classes,
        train_samples=len(data.train),
        val_samples=len(data.val),
        split=data.split,
        digest=data.digest,
        val_labels=tuple(map(int, data.val.labels)),
        val_fraction=data.val_fraction,
        split_seed=data.split_seed,
        skipped=data.skipped,
        notes=data.notes,
    )


def hold_out(data: TrainingData, fraction: float, seed: int = 0) -> TrainingData:
    """Return data whose validation samples are a part of the training samples.

    A choice that is made by them, such as that of a learning rate, does not see the validation
    samples. The part is stratified: each class gives about the same share.

    Args:
        data: With the validation samples that are left out.
        fraction: Of the training samples, between 0 and 1.
        seed: Another one holds out other samples.

    Raises:
        TrainingError: The fraction is not between 0 and 1, or no class has two samples.

    Example:
        >>> from pathlib import Path
        >>> from freezekit.data.samples import FileSamples
        >>> from freezekit.data.training_data import TrainingData
        >>> names = tuple(f"{number}.png" for number in range(8))
        >>> some = FileSamples(Path("photos"), names, (0, 0, 0, 0, 1, 1, 1, 1))
        >>> held = hold_out(TrainingData("photos", ("a", "b"), some, some, "given", "1f"), 0.25)
        >>> held.train.labels, held.val.labels, held.digest
        ((0, 0, 0, 1, 1, 1), (0, 1), '1f held out 0.25 seed 0')
    """
    if not 0 < fraction < 1:
        raise TrainingError(f"hold_out is {fraction}, expected a number between 0 and 1")
    stay, held = stratified_split(data.train.labels, fraction, seed)
    if not held:
        raise TrainingError("no class has two training samples, so that none can be held out")
    return replace(
        data,
        train=ChosenSamples(data.train, stay),
        val=ChosenSamples(data.train, held),
        digest=f"{data.digest} held out {fraction:g} seed {seed}",
    )
