"""A data loader over the features of a frozen prefix, otherwise as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from torch.utils.data import BatchSampler, DataLoader

from freezekit.cache.ranks import on_this_rank
from freezekit.errors import CacheError, suggest
from freezekit.integrations.collating import check_collating

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch
    from torch import nn

    from freezekit.cache.dataset import CachedDataset
    from freezekit.cache.records import OnThaw
    from freezekit.handle.frozen import Frozen


class CacheOptions(TypedDict, total=False):
    """Options of `Frozen.cache`, each as documented there. A plain dict does as well.

    Example:
        >>> CacheOptions(folder="features", limit="8GiB")
        {'folder': 'features', 'limit': '8GiB'}
    """

    image: int | str | None
    folder: str | Path | None
    limit: str | None
    views: int
    seed: int
    workers: int
    dtype: torch.dtype | None
    data_version: str | None
    call: Callable[[nn.Module, Any], Any] | None  # Any: a batch, and what the model returns
    on_thaw: OnThaw


def check_options(options: CacheOptions) -> None:
    """Refuse options that a cache does not have.

    Raises:
        CacheError: There is one.

    Example:
        >>> check_options({"view": 3})
        Traceback (most recent call last):
        freezekit.errors.CacheError: a cache has no option 'view', did you mean 'views'?
    """
    known = CacheOptions.__annotations__
    for name in options:
        if name not in known:
            asked = suggest(str(name), known) or f"; it has {', '.join(sorted(known))}"
            raise CacheError(f"a cache has no option {name!r}{asked}")


def fill_for(frozen: Frozen, loader: object, options: CacheOptions) -> CachedDataset:
    """Fill a cache of the data set of a loader.

    Args:
        frozen: The handle of the model that is trained.
        loader: What reads the training data. The batch size is its own.
        options: Of the cache.

    Raises:
        CacheError: It is no DataLoader, has batches of several sizes, collates other images than
            the data set gives, or the cache is refused.
    """
    size = loader.batch_size if isinstance(loader, DataLoader) else None
    if not isinstance(loader, DataLoader) or size is None:
        lacks = " without batch_size" if isinstance(loader, DataLoader) else ""
        raise CacheError(
            f"the training data are read by a {type(loader).__name__}{lacks}, expected one "
            "torch.utils.data.DataLoader with a batch_size; leave cache= out, and give your own "
            "data loader the data set that frozen.cache(dataset, batch_size) returns"
        )
    image = options.get("image")
    on_this_rank(lambda: check_collating(loader.dataset, loader.collate_fn, image, may_rename=True))
    return frozen.cache(loader.dataset, size, **options)


def over_features(
    loader: DataLoader[Any], cached: CachedDataset, *, may_persist: bool
) -> DataLoader[Any]:  # Any: a sample
    """Return a loader of features: with the samplers, the collate function and the workers as ever.

    Args:
        loader: The loader of images.
        cached: The same samples, with features.
        may_persist: Whether workers may stay from one epoch to the next. Under a schedule they
            would have features of an earlier plan.

    Example:
        >>> import torch
        >>> from torch.utils.data import TensorDataset
        >>> from freezekit import freeze_
        >>> from freezekit.testing import MODELS
        >>> data = TensorDataset(torch.rand(8, 3, 32, 32), torch.arange(8) % 4)
        >>> loader = DataLoader(data, batch_size=4, shuffle=True)
        >>> cached = fill_for(freeze_(MODELS["residual"](), "head-only"), loader, {})
        >>> features, _ = next(iter(over_features(loader, cached, may_persist=True)))
        >>> features.dim(), len(features)
        (2, 4)
    """
    kept: dict[str, Any] = {  # Any: options of many types
        name: getattr(loader, name)
        for name in (
            "num_workers",
            "collate_fn",
            "pin_memory",
            "timeout",
            "worker_init_fn",
            "multiprocessing_context",
            "generator",
            "prefetch_factor",
            "in_order",
        )
    }
    if type(loader.batch_sampler) is BatchSampler:  # a trainer may give it another sampler
        kept |= {
            "batch_size": loader.batch_size,
            "sampler": loader.sampler,
            "drop_last": loader.drop_last,
        }
    else:
        kept["batch_sampler"] = loader.batch_sampler
    return DataLoader(cached, persistent_workers=may_persist and loader.persistent_workers, **kept)
