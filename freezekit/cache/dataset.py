"""`CachedDataset`: samples with a row of the cache in place of the image."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from torch.utils.data import Dataset

from freezekit.cache.samples import with_image

if TYPE_CHECKING:
    from freezekit.cache.attached import TakesRows
    from freezekit.cache.filling import Filled
    from freezekit.cache.rows import Rows
    from freezekit.cache.samples import Place


class CachedDataset(Dataset[Any]):
    """A data set whose samples have the features of the frozen prefix in place of the image.

    `Frozen.cache` makes it. Features are one tensor of numbers for each sample, and the model takes
    a batch of them as it takes images.

    Attributes:
        filled: What was filled, how large it is and how exact.
    """

    def __init__(self, rows: Rows, place: Place, filled: Filled, takes: TakesRows) -> None:
        self.filled = filled
        self._rows, self._place, self._takes = rows, place, takes
        self._epoch = 0

    def __getstate__(self) -> dict[str, Any]:  # Any: the protocol of pickle
        """The model does not travel to workers of a data loader."""
        return {**vars(self), "_takes": None}

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.filled.samples

    def __getitem__(self, index: int) -> Any:  # Any: as the data set gives it
        """Return a sample, with a row in place of its image."""
        samples, views = self.filled.samples, self.filled.views
        if not -samples <= index < samples:
            raise IndexError(index)
        index %= samples
        view = 0
        if views > 1:  # each sample goes through its views in an order of its own
            view = (random.Random(index).randrange(views) + self._epoch) % views
        row, kept = self._rows.read(view * samples + index)
        return with_image(kept, self._place, row)

    def __repr__(self) -> str:
        return f"CachedDataset({self.filled})"

    def set_epoch(self, epoch: int) -> None:
        """Choose the augmented views of an epoch, before its data loader begins."""
        self._epoch = epoch

    def close(self) -> None:
        """Let the model take images alone again."""
        if self._takes is not None:
            self._takes.detach()
