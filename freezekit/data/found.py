"""Labelled images that were found, before they are checked and divided."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from freezekit.data.samples import ChosenSamples, FileSamples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.data.folder import ImageList
    from freezekit.data.training_data import Samples


@dataclass(frozen=True)
class Part:
    """Labelled images of a training, of a validation, or of both.

    Attributes:
        samples: The images.
        names: Of each, the same on each machine.
        sizes: Of each in bytes; 0 where it is in no file, -1 where the file cannot be found.
    """

    samples: Samples
    names: tuple[str, ...]
    sizes: tuple[int, ...]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.names)

    def without(self, names: Sequence[str]) -> Part:
        """Return the part without images of these names."""
        gone = set(names)
        return self.chosen([place for place, name in enumerate(self.names) if name not in gone])

    def chosen(self, places: Sequence[int]) -> Part:
        """Return the images of these places."""
        if len(places) == len(self):
            return self
        return Part(
            ChosenSamples(self.samples, tuple(places)),
            tuple(self.names[place] for place in places),
            tuple(self.sizes[place] for place in places),
        )


@dataclass(frozen=True)
class Found:
    """What a text of the user's names.

    Attributes:
        classes: Their names, in the order of their numbers.
        train: The images for training, or all where there is no split.
        val: Those for validation; None where there is no split.
        notes: Sentences for the reader.
        source_digest: Of the code that makes them; "" where no code does.
    """

    classes: tuple[str, ...]
    train: Part
    val: Part | None = None
    notes: tuple[str, ...] = ()
    source_digest: str = ""

    def without(self, names: Sequence[str]) -> Found:
        """Return what was found without images of these names."""
        val = self.val.without(names) if self.val is not None else None
        return replace(self, train=self.train.without(names), val=val)


def part_of_files(images: ImageList, labels: Sequence[int], below: str = "") -> Part:
    """Return the part of a list of images.

    Args:
        images: Where they are.
        labels: The number of the class of each, which may be other than in the list.
        below: The folder of the list in that of the user, for names.
    """
    sizes = []
    for name in images.files:
        try:
            sizes.append((images.root / name).stat().st_size)
        except OSError:  # such as a link to nothing; the check of all images tells it
            sizes.append(-1)
    names = (f"{below}/{name}" if below else name for name in images.files)
    return Part(
        FileSamples(images.root, images.files, tuple(labels)),
        tuple(name.encode(errors="backslashreplace").decode() for name in names),
        tuple(sizes),
    )
