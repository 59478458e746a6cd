"""Fill a cache: the prefix of a frozen model runs once for each sample."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader

from freezekit.cache.attached import TakesRows
from freezekit.cache.calls import outputs_of
from freezekit.cache.dataset import CachedDataset
from freezekit.cache.finding import SAMPLES, find_prefix
from freezekit.cache.fingerprint import fingerprint, frozen_tensors, weights_digest
from freezekit.cache.rows import Rows, RowsInFolder, RowsInMemory
from freezekit.cache.samples import (
    FirstOf,
    Viewed,
    check_samples,
    image_in,
    place_of,
)
from freezekit.cache.untouched import in_training
from freezekit.errors import CacheError
from freezekit.freezing.eval_hold import RECORD
from freezekit.results.sizes import size_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from freezekit.cache.prefix import Prefix

# Any in this file: a data set may give anything, and a model take it.


@dataclass(frozen=True)
class Filled:
    """What a cache holds.

    Attributes:
        samples: Samples of the data set.
        views: Augmented views of each.
        boundary: The modules whose outputs are kept.
        bytes_per_sample: Of one view.
        batch_size: The size of batches in which it was filled. Kernels may give other last bits
            for other sizes.
        largest_difference: Between features of batches of this size and of half of it, relative to
            the largest feature: 0 where the bits do not depend on the size.
    """

    samples: int
    views: int
    boundary: tuple[str, ...]
    bytes_per_sample: int
    batch_size: int
    largest_difference: float

    @property
    def total_bytes(self) -> int:
        """Of all rows."""
        return self.samples * self.views * self.bytes_per_sample

    def __str__(self) -> str:
        views = f" x {self.views} views" if self.views > 1 else ""
        exact = (
            "the same bits for other batch sizes"
            if self.largest_difference == 0
            else f"other batch sizes differ by {self.largest_difference:.1g} of the largest feature"
        )
        return (
            f"{self.samples:,} samples{views}, features of {', '.join(self.boundary)}, "
            f"{size_text(self.bytes_per_sample)} each, {size_text(self.total_bytes)} in all; "
            f"filled in batches of {self.batch_size}, {exact}"
        )


@dataclass(frozen=True)
class Request:
    """What a user asked for; see `Frozen.cache`."""

    dataset: Any
    batch_size: int
    image: int | str | None = None
    folder: Path | None = None
    limit_bytes: int | None = None
    views: int = 1
    seed: int = 0
    workers: int = 0
    data_version: str | None = None
    call: Callable[[nn.Module, Any], Any] | None = None
    dtype: torch.dtype | None = None


def fill(model: nn.Module, asked: Request) -> CachedDataset:
    """Return a cached data set, and let the model take its rows.

    Raises:
        CacheError: The prefix cannot be cached, the data set does not allow it, or it is too large.
    """
    samples = _length(asked.dataset)
    place = place_of(asked.dataset[0], asked.image)
    data = check_samples(asked.dataset, place, asked.views)
    views = Viewed(asked.dataset, asked.views, asked.seed)
    few = [views[i % len(views)] for i in range(max(SAMPLES))]
    collate = FirstOf(place)
    plan = model.__dict__[RECORD].plan
    device = next(model.parameters()).device

    def run(batch: Any) -> Any:
        batch = pytree.tree_map_only(Tensor, lambda t: t.to(device), batch)
        return asked.call(model, batch) if asked.call else model(image_in(batch, place))

    with in_training(model):
        batch, fewer = collate(few[: SAMPLES[0]])[1], collate(few[: SAMPLES[1]])[1]
        prefix = find_prefix(model, run, batch, fewer)
        image = image_in(batch, place)
        if image.dim() == 2 and image.shape[1] == prefix.numbers:
            raise CacheError(
                f"features have the shape of the input, {tuple(image.shape[1:])}, so that the "
                "model could not tell them apart; nothing is saved by a cache here"
            )
        dtype = asked.dtype or prefix.dtype
        size = prefix.numbers * dtype.itemsize
        _check_size(size * len(views), size, asked)
        marks = fingerprint(
            weights_digest(frozen_tensors(model, plan)),
            plan,
            prefix,
            asked.data_version or data,
            {
                "batch size": asked.batch_size,
                "views": asked.views,
                "seed": asked.seed,
                "dtype": dtype,
                "autocast": _autocast(device),
            },
        )
        rows: Rows = (
            RowsInMemory(len(views), prefix.numbers, dtype)
            if asked.folder is None
            else RowsInFolder.at(asked.folder, len(views), prefix.numbers, dtype, marks)
        )
        difference = _difference(model, run, prefix, views, asked, collate)
        _fill(model, run, prefix, rows, views, asked, collate)
    boundary = tuple(str(call) for call in prefix.cut)
    filled = Filled(samples, asked.views, boundary, size, asked.batch_size, difference)
    takes = TakesRows(model, prefix, image)
    takes.attach()
    return CachedDataset(rows, place, filled, takes)


def _fill(
    model: nn.Module,
    run: Callable[[Any], Any],
    prefix: Prefix,
    rows: Rows,
    views: Viewed,
    asked: Request,
    collate: FirstOf,
) -> None:
    start = rows.next_missing()
    batches = [
        [min(i, len(views) - 1) for i in range(first, first + asked.batch_size)]  # the last is full
        for first in range(start, len(views), asked.batch_size)
    ]
    loader = DataLoader(views, batch_sampler=batches, collate_fn=collate, num_workers=asked.workers)
    console = Console(file=sys.stderr)
    shown = track(
        loader,
        "computing the frozen prefix",
        total=len(batches),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    for kept, batch in shown:
        # With gradients enabled, as in training: some kernels are chosen by that.
        with torch.enable_grad():
            found = outputs_of(model, partial(run, batch), prefix.cut)
        made = prefix.rows(found, asked.batch_size)
        count = min(asked.batch_size, len(views) - start)
        rows.write(start, made[:count].detach().cpu(), kept[:count])
        start += count


def _difference(
    model: nn.Module,
    run: Callable[[Any], Any],
    prefix: Prefix,
    views: Viewed,
    asked: Request,
    collate: FirstOf,
) -> float:
    """Return how far features depend on the size of the batch, relative to the largest."""
    half = max(1, asked.batch_size // 2)
    samples = [views[i % len(views)] for i in range(asked.batch_size)]
    whole, part = (
        prefix.rows(outputs_of(model, partial(run, collate(s)[1]), prefix.cut), len(s))
        for s in (samples, samples[:half])
    )
    largest = whole.abs().max().item() or 1.0
    return float((whole[:half] - part).abs().max().item() / largest)


def _length(dataset: Any) -> int:
    try:
        count = len(dataset)
    except TypeError:
        count = 0
    if not count or not hasattr(type(dataset), "__getitem__"):
        raise CacheError(
            f"the data set {type(dataset).__name__} has no samples by index: a cache needs "
            "__len__ and __getitem__ with at least one sample"
        )
    return count


def _check_size(total: int, each: int, asked: Request) -> None:
    if asked.limit_bytes is not None and total > asked.limit_bytes:
        raise CacheError(
            f"the cache would take {size_text(total)}, {size_text(each)} a sample, and the limit "
            f"is {size_text(asked.limit_bytes)}; freeze more stages, whose features may be "
            "smaller, take fewer views, or raise the limit"
        )


def _autocast(device: torch.device) -> str:
    if not torch.is_autocast_enabled(device.type):
        return "off"
    return str(torch.get_autocast_dtype(device.type))
