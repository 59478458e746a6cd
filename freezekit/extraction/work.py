"""What is extracted, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from freezekit import __version__
from freezekit.results.sizes import size_text

if TYPE_CHECKING:
    from torch import nn

    from freezekit.data.folder import ImageList
    from freezekit.data.preprocessing import Preprocessing
    from freezekit.extraction.boundary import Boundary

BYTES_PER_FILE = 64 * 2**20
SAMPLES_PER_FILE = 1024
"""The most in one file: what an interrupted run loses. On a slow CPU, 1024 images take minutes."""

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Work:
    """What is to be computed, and how.

    Attributes:
        images: Of which.
        preprocessing: How the model takes them.
        boundary: Where the features are taken.
        batch_size: Images that go through the model together.
        workers: Processes that read images.
        dtype: Of the features: a key of `DTYPES`.
        bad_images: What becomes of images that cannot be read: "error" or "skip".
        about: What else the features depend on, such as the name of the model.
        most_per_file: Samples in one file, if these take less than 64 MiB.
    """

    images: ImageList
    preprocessing: Preprocessing
    boundary: Boundary
    batch_size: int = 32
    workers: int = 0
    dtype: str = "float32"
    bad_images: Literal["error", "skip"] = "error"
    about: tuple[tuple[str, str], ...] = ()
    most_per_file: int = SAMPLES_PER_FILE

    @property
    def bytes_per_sample(self) -> int:
        """Of the features."""
        return self.boundary.numbers * DTYPES[self.dtype].itemsize

    @property
    def samples_per_file(self) -> int:
        """A multiple of the batch size, so that a run that goes on has the same batches."""
        most = min(self.most_per_file, BYTES_PER_FILE // max(1, self.bytes_per_sample))
        return max(1, most // self.batch_size) * self.batch_size

    def __str__(self) -> str:
        each, samples = self.bytes_per_sample, len(self.images)
        return (
            f"{self.boundary}, {self.dtype}, {size_text(each)} each, "
            f"{size_text(each * samples)} in all"
        )

    def places(self) -> list[range]:
        """Return the places in the list of images that each file is of."""
        size, count = self.samples_per_file, len(self.images)
        return [range(start, min(start + size, count)) for start in range(0, count, size)]

    def metadata(self, model: nn.Module) -> dict[str, str]:
        """Return all that the features depend on, by what a message calls it."""
        boundary = self.boundary
        return {
            **dict(self.about),
            "boundary": ", ".join(tensor.name for tensor in boundary.tensors),
            "layout": ", ".join(f"{tensor.name} {tensor.shape}" for tensor in boundary.tensors),
            "pool": boundary.pool,
            "dtype": self.dtype,
            "transform": self.preprocessing.text,
            "images": f"{len(self.images)}, {self.images.digest()}",
            "batch size": str(self.batch_size),
            "samples per file": str(self.samples_per_file),
            "weights": boundary.weights,
            "device": next(model.parameters()).device.type,
            "freezekit": __version__,
            "torch": str(torch.__version__),
        }
