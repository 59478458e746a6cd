"""`CachedDataset`: samples with a row of the cache in place of the image."""

from __future__ import annotations

import random
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import Dataset

from freezekit.cache.filling import Features, fill
from freezekit.cache.source import FromRows
from freezekit.errors import CacheError, FreezekitWarning

if TYPE_CHECKING:
    from torch import nn

    from freezekit.cache.attached import TakesRows
    from freezekit.cache.records import Filled, Request

EPOCH, MOVES = 0, 1
"""Places in the numbers that all processes of a data loader share."""


class CachedDataset(Dataset[Any]):
    """A data set whose samples have the features of the frozen prefix in place of the image.

    `Frozen.cache` makes it. Features are one tensor of numbers for each sample, and the model takes
    a batch of them as it takes images. It follows the plan: where stages thaw, its features are
    those of an earlier boundary, or its samples have images again.
    """

    def __init__(self, model: nn.Module, asked: Request) -> None:
        features = fill(model, asked)
        self._model, self._asked = model, asked
        self._count, self._views = features.filled.samples, features.filled.views
        # Workers of a data loader that persist read these numbers too.
        self._shared = torch.zeros(2, dtype=torch.int64).share_memory_()
        self._moves = 0
        self._features: Features | None = None
        self._attached: list[TakesRows] = []  # of all boundaries: rows of earlier ones may come
        self._filled: Filled | None = None
        self._samples: Any = None  # all views with rows, or the data set itself
        self._take(features)

    @property
    def has_features(self) -> bool:
        """Whether samples have features, and not images again."""
        return isinstance(self._samples, FromRows)

    @property
    def filled(self) -> Filled:
        """What was filled, how large it is and how exact.

        Raises:
            CacheError: Samples have images again.
        """
        if self._filled is None:
            raise CacheError("the cache was dropped when the plan changed: samples have images")
        return self._filled

    def __getstate__(self) -> dict[str, Any]:  # Any: the protocol of pickle
        """The model does not travel to workers of a data loader."""
        return {**vars(self), "_model": None, "_asked": None, "_features": None, "_attached": []}

    def __getattr__(self, name: str) -> Any:  # Any: whatever the data set has
        """Return an attribute of the data set, such as `classes` or `targets`."""
        asked = self.__dict__.get("_asked")
        if name.startswith("_") or asked is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(asked.dataset, name)

    def __len__(self) -> int:
        """Return the number of samples."""
        return self._count

    def __getitem__(self, index: int) -> Any:  # Any: as the data set gives it
        """Return a sample, with a row in place of its image."""
        if int(self._shared[MOVES]) != self._moves:
            raise CacheError(
                "the plan has changed since this data loader began, and its workers have features "
                "of before; begin a new one: change the plan between epochs, without "
                "persistent_workers, or read without workers (num_workers=0)"
            )
        if not -self._count <= index < self._count:
            raise IndexError(index)
        index %= self._count
        if not self.has_features:
            return self._samples[index]
        view = 0
        if self._views > 1:  # each sample goes through its views in an order of its own
            first = random.Random(index).randrange(self._views)
            view = (first + int(self._shared[EPOCH])) % self._views
        return self._samples[view * self._count + index]

    def __repr__(self) -> str:
        return f"CachedDataset({self._filled or 'images again'})"

    def set_epoch(self, epoch: int) -> None:
        """Choose the augmented views of an epoch, before its data loader begins."""
        self._shared[EPOCH] = epoch

    def follow_plan(self) -> None:
        """Take the boundary of the plan in force; the handle calls it after each change of plan.

        Where no features of it can be kept, samples have images again, and a warning says why: a
        training does not end for that.
        """
        before = self._features
        is_of_plan = before is not None and before.takes.is_of_plan_in_force()
        is_valid = before is not None and before.takes.is_valid()
        if is_of_plan and is_valid:
            return
        if self._asked.on_thaw == "drop":
            if before is not None and not is_valid:
                self._drop("on_thaw is 'drop'")
            return
        try:
            found = fill(self._model, self._asked, before if is_valid else None)
        except CacheError as error:
            if before is not None:
                self._drop(str(error))
            return
        if found is not before:
            if before is not None:
                before.rows.remove()
            self._take(found)
            self._moves += not is_valid
            self._shared[MOVES] = self._moves

    def close(self) -> None:
        """Let the model take images alone again."""
        for takes in self._attached:
            takes.detach()

    def _take(self, features: Features) -> None:
        self._count = features.filled.samples  # a data set may have grown since
        count = self._count * self._views
        width = features.takes.width
        self._features, self._filled = features, features.filled
        self._attached.append(features.takes)
        self._samples = FromRows(features.rows, features.place, width, count)

    def _drop(self, reason: str) -> None:
        if self._features is not None:
            self._features.rows.remove()
        self._features, self._filled, self._samples = None, None, self._asked.dataset
        self._count = len(self._samples)
        self._moves += 1
        self._shared[MOVES] = self._moves
        warnings.warn(
            f"the plan now trains a part whose features were cached, and samples have images "
            f"again from the next data loader on: {reason}",
            FreezekitWarning,
            stacklevel=4,
        )
