"""The data of a Trainer, with features in place of images once the training begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch.utils.data import Dataset

if TYPE_CHECKING:
    from torch import nn

    from freezekit.cache.dataset import CachedDataset
    from freezekit.handle.frozen import Frozen
    from freezekit.integrations.cached_loader import CacheOptions

# Any in this file: samples, batches and what a model returns may be anything.


class FeaturesForTrainer(Dataset[Any]):
    """A data set of images for a Trainer, which gives features from the start of training on.

    Trainer makes its data loader before it loads a checkpoint, and its callbacks cannot give it
    another data set. So this one changes what it gives: the cache is filled when the model, its
    weights and its plan are there.
    """

    def __init__(self, images: Any, options: CacheOptions) -> None:
        self._images, self._options = images, options
        self._cached: CachedDataset | None = None

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Any:
        return (self._images if self._cached is None else self._cached)[index]

    def __repr__(self) -> str:
        return f"FeaturesForTrainer({self._cached or self._images!r})"

    def fill(self, frozen: Frozen, batch_size: int) -> None:
        """Fill the cache, or fill it anew.

        Raises:
            CacheError: As `Frozen.cache`.
        """
        options = self._options
        if isinstance(self._images[0], Mapping):
            options = {"call": call_with_all, **options}
        self._cached = frozen.cache(self._images, batch_size, **options)

    def set_epoch(self, epoch: int) -> None:
        """Choose the augmented views of an epoch."""
        if self._cached is not None:
            self._cached.set_epoch(epoch)


def call_with_all(model: nn.Module, batch: Any) -> Any:
    """Call a model as Trainer does."""
    return model(**batch)
