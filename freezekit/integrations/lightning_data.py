"""The data of a Lightning training, with features in place of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freezekit.integrations.cached_loader import CacheOptions, fill_for, over_features

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from freezekit.cache.dataset import CachedDataset
    from freezekit.handle.frozen import Frozen


class FeaturesForTraining:
    """Lets a trainer read features wherever it asks for the data loader of the training.

    Lightning asks once all states are loaded, with the model on its device, and each time that
    loaders are made anew. The cache is filled at the first time.
    """

    def __init__(
        self,
        frozen: Frozen,
        trainer: Any,  # Any: of either package
        options: CacheOptions,
        *,
        may_persist: bool,
    ) -> None:
        self._frozen, self._trainer = frozen, trainer
        self._options, self._may_persist = options, may_persist
        self._images: object = None
        self._cached: CachedDataset | None = None
        self._source = source = trainer.fit_loop._data_source
        ask = type(source).dataloader
        source.dataloader = lambda: self._over_features(ask(source))

    def set_epoch(self, epoch: int) -> None:
        """Choose the augmented views of an epoch."""
        if self._cached is not None:
            self._cached.set_epoch(epoch)

    def remove(self) -> None:
        """Let the trainer read its own data again."""
        vars(self._source).pop("dataloader", None)

    def _over_features(self, loader: DataLoader[Any]) -> DataLoader[Any]:  # Any: a sample
        images = getattr(loader, "dataset", None)
        if self._cached is None or self._images is not images:
            with self._trainer.precision_plugin.forward_context():
                self._cached = fill_for(self._frozen, loader, self._options)
            self._images = images
        self._cached.set_epoch(self._trainer.current_epoch)
        return over_features(loader, self._cached, may_persist=self._may_persist)
