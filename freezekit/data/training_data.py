"""The images of a training, and those of its validation: with labels, and without transforms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class Samples(Protocol):
    """Labelled images by index.

    A sample is (image, label): the image of PIL, or a tensor that is taken as it is; the number of
    the class.
    """

    @property
    def labels(self) -> Sequence[int]:
        """The number of the class of each sample."""
        ...

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def __getitem__(self, index: int) -> tuple[Any, int]:  # Any: an image of PIL, or a tensor
        """Return a sample."""
        ...


@dataclass(frozen=True)
class TrainingData:
    """What is trained on, and what is validated on.

    Attributes:
        source: As the user gave it.
        classes: Their names, in the order of their numbers.
        train, val: The samples.
        split: "given" by the user, or "made".
        digest: Of names, sizes and labels of all samples and of the split.
        val_fraction, split_seed: Of a split that was made; else None.
        skipped: Images that cannot be read, and were left out.
        notes: Sentences for the reader, such as which folders were not used.
    """

    source: str
    classes: tuple[str, ...]
    train: Samples
    val: Samples
    split: Literal["given", "made"]
    digest: str
    val_fraction: float | None = None
    split_seed: int | None = None
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
