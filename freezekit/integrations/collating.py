"""A collate function must leave the image alone, where features are to take its place."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from freezekit.cache.layout import same
from freezekit.cache.samples import image_in, place_of
from freezekit.errors import CacheError
from freezekit.model.random_state import RandomState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from freezekit.cache.samples import Place

# Any in this file: samples and batches may be anything.

ONCE, OFTEN = 2, 32
"""How often two samples are collated: often, if the function draws random numbers."""


def check_collating(
    dataset: Any,
    collate: Callable[[list[Any]], Any],
    image: Place,
    *,
    may_rename: bool,
) -> Any:
    """Collate two samples as a data loader does, and return the batch.

    Features are computed of the samples, before they are collated. What a collate function does to
    images would be lost, or done to features.

    Args:
        dataset: Of images. Without samples by index, nothing is checked, and None is returned.
        collate: Of the data loader.
        image: Where the image of a sample is, or None.
        may_rename: Whether images may have another key in a batch than in a sample.

    Raises:
        CacheError: The batch has no images with the bits of the samples, or not under their key.

    Example:
        >>> from torch.utils.data import default_collate
        >>> data = [(torch.ones(3, 4, 4), 0)] * 2
        >>> check_collating(data, default_collate, None, may_rename=True)[0].shape
        torch.Size([2, 3, 4, 4])
        >>> try:
        ...     check_collating(data, lambda b: torch.zeros(2, 3, 4, 4), None, may_rename=True)
        ... except CacheError as error:
        ...     print(str(error)[:43])
        the collate function <lambda> changes image
    """
    if not hasattr(type(dataset), "__getitem__") or not hasattr(type(dataset), "__len__"):
        return None  # the cache says what it needs
    before = RandomState.now()
    try:
        samples = [dataset[0], dataset[len(dataset) - 1]]
        place = place_of(samples[0], image)
        images = [image_in(sample, place) for sample in samples]
        if images[0].shape != images[1].shape:
            return None  # as above
        wanted, state = torch.stack(images), RandomState.now()
        batch = _collated(collate, samples)
        draws = state != RandomState.now()
        others = (_collated(collate, samples) for _ in range(1, OFTEN if draws else ONCE))
        for each in (batch, *others):
            _check(each, wanted, place, name_of(collate), may_rename=may_rename)
    finally:
        before.restore()
    return batch


def name_of(collate: Any) -> str:
    """Return the name of a collate function; that of transformers' Trainer has the user's own."""
    own = getattr(collate, "data_collator", collate)
    return str(getattr(own, "__name__", type(own).__name__))


def _collated(collate: Callable[[list[Any]], Any], samples: Sequence[Any]) -> Any:
    try:
        return collate([copy(sample) for sample in samples])  # it may take keys out of a sample
    except Exception as error:
        error.add_note(f"{name_of(collate)} was given two samples, before a cache is filled.")
        raise


def _check(batch: Any, wanted: Tensor, place: Place, name: str, *, may_rename: bool) -> None:
    whole = dict(batch) if isinstance(batch, Mapping) else batch
    if _is(_at(whole, place), wanted):
        return
    elsewhere = [leaf for leaf in pytree.tree_leaves(whole) if _is(leaf, wanted)]
    if elsewhere and may_rename:
        return
    where = "" if place is None else f" at {place!r}"
    if elsewhere:
        items = whole.items() if isinstance(whole, dict) else ()
        new = next((f" to {key!r}" for key, value in items if _is(value, wanted)), "")
        raise CacheError(
            f"the collate function {name} moves the images{where}{new}, and features are computed "
            "of the samples before it: give images the name in the data set that the model takes"
        )
    raise CacheError(
        f"the collate function {name} changes images{where}, and features are computed of the "
        "samples before it: its work would be lost. Do that in the data set, or train without a "
        "cache"
    )


def _at(batch: Any, place: Place) -> Any:
    if place is None:
        return batch
    try:
        return batch[place]
    except (KeyError, IndexError, TypeError):
        return None


def _is(value: Any, wanted: Tensor) -> bool:
    return isinstance(value, Tensor) and value.dtype == wanted.dtype and same(value, wanted)
