"""Labelled images of files, and parts of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from PIL import Image

from freezekit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from freezekit.data.training_data import Samples


@dataclass(frozen=True)
class FileSamples:
    """Images in files. They are read when they are asked for, so processes share them.

    Attributes:
        root: The folder.
        files: Paths below it, with "/".
        labels: The number of the class of each.
    """

    root: Path
    files: tuple[str, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        """Return an image and the number of its class.

        Raises:
            DataError: The file cannot be read any more.
        """
        path = self.root / self.files[index]
        try:
            with Image.open(path) as image:
                image.load()
                return image, self.labels[index]
        except Exception as error:
            raise DataError(
                f"cannot read the image {str(path)!r}, which was there when the training began: "
                f"{type(error).__name__}: {error}"
            ) from error


@dataclass(frozen=True)
class ChosenSamples:
    """Some of other samples.

    Attributes:
        samples: The others.
        indices: Places among them.

    Example:
        >>> from pathlib import Path
        >>> three = FileSamples(Path("photos"), ("a/1.png", "a/2.png", "b/1.png"), (0, 0, 1))
        >>> ChosenSamples(three, (2, 0)).labels
        (1, 0)
    """

    samples: Samples
    indices: Sequence[int]

    @cached_property
    def labels(self) -> tuple[int, ...]:
        """The number of the class of each sample."""
        return tuple(self.samples.labels[index] for index in self.indices)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Any, int]:  # Any: an image of PIL, or a tensor
        """Return a sample."""
        return self.samples[self.indices[index]]
