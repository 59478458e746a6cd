"""The data of a Trainer, with features in place of images once the training begins."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from torch.utils.data import Dataset

from freezekit.cache.ranks import on_this_rank
from freezekit.errors import CacheError
from freezekit.integrations.cached_loader import check_options
from freezekit.integrations.collating import check_collating

if TYPE_CHECKING:
    from collections.abc import Container

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
        """Take the images, and the options of the cache.

        Raises:
            CacheError: There are no samples by index, or no such options.
        """
        check_options(options)
        if not hasattr(type(images), "__getitem__") or not hasattr(type(images), "__len__"):
            raise CacheError(
                f"the data set {type(images).__name__} has no samples by index, such as an "
                "IterableDataset: a cache needs __len__ and __getitem__. Give Trainer this data "
                "set without features_of"
            )
        self._images, self._options = images, options
        self._cached: CachedDataset | None = None

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Any:
        return (self._images if self._cached is None else self._cached)[index]

    def __repr__(self) -> str:
        if self._cached is not None:
            return f"FeaturesForTrainer({self._cached!r})"
        return (
            f"FeaturesForTrainer(images of a {type(self._images).__name__}, until a Trainer that "
            "was given its FreezeCallback trains)"
        )

    def fill(self, frozen: Frozen, loader: Any, batch_size: int) -> None:
        """Fill the cache, or fill it anew.

        Args:
            frozen: The handle of the model that is trained.
            loader: That of the training: samples are collated as it does it.
            batch_size: Of one process.

        Raises:
            CacheError: The collate function changes images, or as `Frozen.cache`.
        """
        self._cached = None  # what is collated are images
        images, options = self._images, self._options
        collate = loader.collate_fn
        is_mapping = isinstance(images[0], Mapping)
        columns = getattr(collate, "signature_columns", None)  # what Trainer gives the model
        if is_mapping and columns is not None:
            images = OnlyColumns(images, columns)
        may_rename = "call" in options or not is_mapping
        image = options.get("image")
        batch = on_this_rank(lambda: check_collating(images, collate, image, may_rename=may_rename))
        if is_mapping:
            options = {"call": partial(call_with, names=batch), **options}
        self._cached = frozen.cache(images, batch_size, **options)

    def forget(self) -> None:
        """Give images again: features are those of another model."""
        if self._cached is not None:
            self._cached.close()
        self._cached = None

    def set_epoch(self, epoch: int) -> None:
        """Choose the augmented views of an epoch."""
        if self._cached is not None:
            self._cached.set_epoch(epoch)


class OnlyColumns(Dataset[Any]):
    """Samples without what Trainer removes from them: it may be anything, and make no batch."""

    def __init__(self, dataset: Any, columns: Container[str]) -> None:
        self._dataset, self._columns = dataset, columns

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        return {key: v for key, v in self._dataset[index].items() if key in self._columns}


def call_with(model: nn.Module, batch: Any, names: Container[str] | None) -> Any:
    """Call a model as Trainer does.

    Args:
        model: That is trained.
        batch: Of samples.
        names: Of what the collate function gives the model: "label" becomes "labels" there.
    """
    return model(**{k: v for k, v in batch.items() if names is None or k in names})
