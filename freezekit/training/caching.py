"""The frozen prefix of a training, computed once for each image where that is exact.

Training images are the same in each epoch only without augmentation; validation images always are.
A batch that is smaller than those in which a cache was filled takes images: kernels may give other
last bits for another size. So a training has the same bits with and without a cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
from torch.utils.data import default_collate

from freezekit.cache.samples import spread
from freezekit.data.batches import TensorSamples
from freezekit.errors import CacheError
from freezekit.verify.isolation import same_bits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from freezekit.cache.dataset import CachedDataset
    from freezekit.data.batches import BatchLoader
    from freezekit.training.trainer import Trainer

MEMORY_SHARE = 0.25
"""Of the memory that is free, a cache may take so much: other trainings run beside this one."""

PROOF_BATCHES = 10
"""A cache is found and proved by steps on some batches: it pays if it spares more."""

COMPARED = 8
"""Samples that are read twice, to see whether a data set of the user's own augments them."""


class PrefixCaches:
    """The caches of one training, for its training and its validation images.

    They follow the plan through a schedule, as `Frozen.cache` documents.

    Args:
        trainer: What is trained.
        train, val: The images as the model takes them; those of the training in epoch 1.
        may_cache_train: Whether training images are the same in each epoch.

    Attributes:
        train, val: The caches; None where there is none.
        notes: Why images are not cached.
    """

    def __init__(
        self, trainer: Trainer, train: TensorSamples, val: TensorSamples, *, may_cache_train: bool
    ) -> None:
        self._trainer = trainer
        self._samples = {"training": train, "validation": val}
        self.train: CachedDataset | None = None
        self.val: CachedDataset | None = None
        self.notes: list[str] = []
        self._tried: dict[str, object] = {}
        self._proved: tuple[str, ...] = ()
        is_on = trainer.recipe.cache == "auto"
        self._caches_train = is_on and may_cache_train and self._is_steady(train)
        # Where a schedule freezes what was trained, its average still moves: it has no cache.
        self._caches_val = is_on and not (trainer.recipe.ema and trainer.recipe.schedule)

    @property
    def has_train_features(self) -> bool:
        """Whether steps take features now."""
        return self.train is not None and self.train.has_features

    @property
    def boundary(self) -> tuple[str, ...]:
        """The modules whose outputs the steps take now; () for images."""
        return self.train.filled.boundary if self.train and self.train.has_features else ()

    def fill_train(self, epochs_left: int) -> None:
        """Make the cache of the training images, where there is none, it can be, and pays."""
        if self._caches_train and self._pays(self._samples["training"], epochs_left):
            self.refill_train()

    def refill_train(self) -> None:
        """Make it whether it pays or not, as in a training that goes on with one."""
        if self.train is None:
            self.train = self._filled("training")

    def fill_val(self, epochs_left: int) -> None:
        """Make the cache of the validation images, likewise; the model is in eval mode."""
        is_wanted = self.val is None and self._caches_val
        if is_wanted and self._pays(self._samples["validation"], epochs_left):
            self.val = self._filled("validation")

    def train_batches(self, loader: BatchLoader) -> Iterator[tuple[Tensor, Tensor, bool]]:
        """Give (inputs, labels, whether the inputs are features) for each batch of an epoch."""
        return _batches(loader, self._samples["training"], self.train)

    def val_batches(self, loader: BatchLoader) -> Iterator[tuple[Tensor, Tensor, bool]]:
        """Give the same of a validation; the model is in eval mode."""
        if self.val is not None and self.val.has_features and not self._is_proved(loader):
            self.val, self._caches_val = None, False
        return _batches(loader, self._samples["validation"], self.val)

    def close(self) -> None:
        """Let the model take images alone again."""
        for cached in (self.train, self.val):
            if cached is not None:
                cached.close()
        self.train = self.val = None

    def _pays(self, samples: TensorSamples, epochs_left: int) -> bool:
        """Tell whether a cache spares more than it takes; filling takes the forward of an epoch."""
        spared = (epochs_left - 1) * len(samples)
        return spared > PROOF_BATCHES * self._trainer.recipe.batch_size

    def _filled(self, which: str) -> CachedDataset | None:
        """Return a cache; None, with a note, where there can be none for the plan in force."""
        frozen = self._trainer.frozen
        if not frozen.plan.frozen or self._tried.get(which) == frozen.plan:
            return None
        self._tried[which] = frozen.plan
        limit = int(psutil.virtual_memory().available * MEMORY_SHARE)
        try:
            with self._trainer.autocast():
                return frozen.cache(
                    self._samples[which],
                    batch_size=self._trainer.recipe.batch_size,
                    limit=str(limit),
                )
        except CacheError as error:
            self.notes.append(f"{which} images are not cached: {error}")
            return None

    def _is_proved(self, loader: BatchLoader) -> bool:
        """Tell whether features give the bits of images in a validation, on the first batch.

        A cache is proved by a step of training; a model may do something else in eval mode.
        """
        assert self.val is not None
        boundary = self.val.filled.boundary
        if self._proved != boundary:
            indices = _indices(loader)[0]
            images, rows = (
                default_collate([samples[index] for index in indices])[0]
                for samples in (self._samples["validation"], self.val)
            )
            if not same_bits(self._trainer.logits(images), self._trainer.logits(rows)):
                self.notes.append(
                    "validation images are not cached: in eval mode the model gives other bits "
                    "for features than for images"
                )
                return False
            self._proved = boundary
        return True

    def _is_steady(self, train: TensorSamples) -> bool:
        """Tell whether samples are the same in each epoch: a data set may augment them itself."""
        for index in spread(len(train), COMPARED):
            one, other = (
                TensorSamples(train.samples, train.transform, train.seed, epoch)[index][0]
                for epoch in (1, 2)
            )
            if not same_bits(one, other):
                self.notes.append(
                    "training images are not cached: the data set gives another image for the "
                    "same index in another epoch"
                )
                return False
        return True


def _batches(
    loader: BatchLoader, images: TensorSamples, cached: CachedDataset | None
) -> Iterator[tuple[Tensor, Tensor, bool]]:
    if cached is None or not cached.has_features:
        for inputs, labels in loader:
            yield inputs, labels, False
        return
    for indices in _indices(loader):
        # Asked for each batch: a change of plan within an epoch may move or drop the features.
        takes = cached.has_features and len(indices) == cached.filled.batch_size
        inputs, labels = default_collate([(cached if takes else images)[i] for i in indices])
        yield inputs, labels, takes


def _indices(loader: BatchLoader) -> list[list[int]]:
    assert loader.batch_sampler is not None
    return list(loader.batch_sampler)
