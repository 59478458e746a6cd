"""Where the batches come from of which a cache is filled: images, or features of before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.data import Dataset

from freezekit.budget import choosing_nothing
from freezekit.cache.samples import FirstOf, image_in, spread, with_image

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from freezekit.cache.rows import Rows
from freezekit.cache.samples import Place

# Any in this file: a data set may give anything, and a model take it.


class FromRows(Dataset[Any]):
    """Samples with features of an earlier boundary: views in turn, as in `Viewed`."""

    def __init__(self, rows: Rows, place: Place, width: int, count: int) -> None:
        self.rows = rows
        self.place = place
        self.width = width
        self.count = count

    def __len__(self) -> int:
        """Return the number of all views."""
        return self.count

    def __getitem__(self, index: int) -> Any:
        """Return a sample, with its row in place of the image."""
        return sample_of(self.rows, index, self.place, self.width)


def sample_of(rows: Rows, index: int, place: Place, width: int) -> Any:
    """Return a sample with a row in place of its image; zeros fill it to a width."""
    row, kept = rows.read(index)
    if (short := width - row.shape[0]) > 0:  # `len` of a tensor takes longer
        row = nn.functional.pad(row, (0, short))
    return with_image(kept, place, row)


@dataclass(frozen=True)
class Source:
    """Batches of samples, and how the model takes them.

    Attributes:
        model: The model.
        samples: All views of all samples, with images or with rows.
        place: Where these are in a sample.
        call: How a batch is given to the model; None: its image alone.
    """

    model: nn.Module
    samples: Dataset[Any]
    place: Place
    call: Callable[[nn.Module, Any], Any] | None

    @property
    def only_image(self) -> bool:
        """Whether a batch has the images alone."""
        return self.call is None

    @property
    def collate(self) -> FirstOf:
        """What makes batches."""
        return FirstOf(self.place, only_image=self.only_image)

    def run(self, batch: Any) -> Any:
        """Call the model with a batch; a memory budget chooses in the steps of a training alone."""
        device = next(self.model.parameters()).device
        batch = pytree.tree_map_only(Tensor, lambda t: t.to(device), batch)
        with choosing_nothing():
            return self.call(self.model, batch) if self.call else self.model(batch)

    def checked(self, samples: Sequence[int]) -> list[Any]:
        """Return batches of the first of the same samples, with a little noise in the images.

        With noise no image is constant, and no two are alike: what a model does with them shows.
        """
        noise = torch.Generator().manual_seed(0)
        noisy = []
        for index in self._spread(max(samples)):
            sample = self.samples[index]
            image = image_in(sample, self.place)
            scale = 0.05 * (image.float().std(correction=0).item() or 1.0)
            drawn = torch.randn(image.shape, generator=noise) * scale
            noisy.append(with_image(sample, self.place, image + drawn.to(image)))
        return [self.collate(noisy[:count])[1] for count in samples]

    def image(self, batch: Any) -> Tensor:
        """Return the images of a batch."""
        return image_in(batch, None if self.only_image else self.place)

    def _spread(self, samples: int) -> list[int]:
        found = spread(len(self.samples), samples)  # type: ignore[arg-type]  # ours have a length
        return [found[i % len(found)] for i in range(samples)]
