"""Fill a cache: the prefix of a frozen model runs once for each sample."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.progress import track
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader

from freezekit.cache.attached import TakesRows
from freezekit.cache.calls import outputs_of
from freezekit.cache.candidates import SAMPLES
from freezekit.cache.encoding import encoding_of
from freezekit.cache.finding import find_prefix
from freezekit.cache.fingerprint import fingerprint, frozen_tensors
from freezekit.cache.folder import only_this_process_fills, open_folder
from freezekit.cache.proving import feeding, prove
from freezekit.cache.ranks import (
    check_same_on_all_ranks,
    from_all_ranks,
    on_this_rank,
    place_among_ranks,
)
from freezekit.cache.records import Filled
from freezekit.cache.reopening import check_rows_there
from freezekit.cache.room import check_seen, check_size, check_space
from freezekit.cache.rounding import apart, rounding
from freezekit.cache.rows import RowsInMemory, unit_rows, units_of
from freezekit.cache.samples import Viewed, check_samples, place_of
from freezekit.cache.source import FromRows, Source
from freezekit.cache.untouched import in_training
from freezekit.errors import CacheError, some
from freezekit.freezing.eval_hold import RECORD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from freezekit.cache.prefix import Prefix
    from freezekit.cache.records import Request
    from freezekit.cache.rows import Rows
    from freezekit.cache.samples import Place

# Any in this file: a data set may give anything.


@dataclass(frozen=True)
class Features:
    """The features of one boundary, for all samples.

    Attributes:
        rows: One for each view of each sample.
        takes: Lets the model take them.
        filled: What they are.
        place: Where the image of a sample was.
    """

    rows: Rows
    takes: TakesRows
    filled: Filled
    place: Place


def fill(model: nn.Module, asked: Request, earlier: Features | None = None) -> Features:
    """Return the features of the plan in force, and let the model take them.

    With several ranks, all must call it, and each computes a share.

    Args:
        model: Frozen by freezekit.
        asked: What is to be cached.
        earlier: Features of an earlier plan. They are returned where they are of the same
            boundary, and new ones are made of them where the new boundary comes after theirs.

    Raises:
        CacheError: The prefix cannot be cached, the data set does not allow it, or it is too large.
    """
    with in_training(model), asked.autocast.entered():
        found = on_this_rank(lambda: _prepared(model, asked, earlier))
        if found is None:
            assert earlier is not None
            return earlier
        check_same_on_all_ranks(found.marks)
        rows = _filled(found)
    found.takes.attach()
    return Features(rows, found.takes, found.filled, found.place)


@dataclass(frozen=True)
class _Prepared:
    """All that is known before anything is filled.

    Attributes:
        asked: What is to be cached.
        source: Of images, or of earlier features.
        takes: Lets the model take the features.
        filled: What they will be.
        marks: What they depend on.
        place: Where the image of a sample is.
    """

    asked: Request
    source: Source
    takes: TakesRows
    filled: Filled
    marks: dict[str, str]
    place: Place


def _prepared(model: nn.Module, asked: Request, earlier: Features | None) -> _Prepared | None:
    """Return what is to be filled; None where earlier features are of the same boundary."""
    _check_whole(model)
    samples = _length(asked.dataset)
    place = place_of(asked.dataset[0], asked.image)
    views = Viewed(asked.dataset, asked.views, asked.seed)
    data = check_samples(views, place, is_vouched_for=asked.data_version is not None)
    asked = replace(asked, batch_size=min(asked.batch_size, len(views)))
    images = Source(model, views, place, asked.call)
    batch, few = images.checked(SAMPLES)
    prefix = find_prefix(model, images.run, batch, few)
    if earlier is not None and earlier.takes.goes_on_with(prefix):
        return None
    encoding = encoding_of(asked.dtype, prefix.dtype, prefix.numbers)
    known = frozen_tensors(model, model.__dict__[RECORD].plan)
    names = [*known, *feeding(images, known, batch, prefix.cut)]
    takes, exact = (
        TakesRows(model, prefix, each, images.image(batch), asked.autocast, names)
        for each in (encoding, replace(encoding, stored=encoding.exact))
    )
    prove(images, exact, batch, SAMPLES[0])
    takes.argument = exact.argument
    settings = {
        "batch size": asked.batch_size,
        "views": asked.views,
        "seed": asked.seed,
        "dtype": encoding.stored,
        "autocast": asked.autocast,
    }
    filled = Filled(
        samples,
        asked.views,
        tuple(str(call) for call in prefix.cut),
        encoding.row_bytes,
        encoding.stored,
        asked.batch_size,
        _size_error(images, prefix, asked.batch_size),
        *rounding(model, images.run, prefix, encoding, batch, SAMPLES[0]),
    )
    check_size(filled, asked)
    return _Prepared(
        asked,
        _after(earlier, prefix, images, samples * asked.views) or images,
        takes,
        filled,
        fingerprint(takes.digest, prefix, asked.data_version or data, settings),
        place,
    )


def _filled(found: _Prepared) -> Rows:
    source, takes, filled, asked = found.source, found.takes, found.filled, found.asked
    count, encoding = filled.samples * filled.views, takes.encoding
    rank, ranks = place_among_ranks()
    with ExitStack() as filling:
        if asked.folder is None:
            unit = unit_rows(encoding.row_bytes, asked.batch_size)
            rows: Rows = RowsInMemory(count, encoding.width, encoding.stored, unit)
        else:
            opened = partial(
                open_folder, asked.folder, count, encoding, asked.batch_size, found.marks
            )
            from_all_ranks(lambda: opened() if rank == 0 else None)  # one makes it
            rows = in_folder = opened()
            only = only_this_process_fills(in_folder)  # and its rank 0 stands for all ranks
            from_all_ranks(lambda: filling.enter_context(only) if rank == 0 else None)
        missing = from_all_ranks(rows.missing)[0]
        from_all_ranks(lambda: check_rows_there(source, rows, takes, missing, count))
        if asked.folder is not None:
            space = sum(map(len, missing)) * encoding.row_bytes
            from_all_ranks(partial(check_space, asked.folder, space))
        computed = _computed(source, takes, asked, missing[rank::ranks])

        def write_next() -> tuple[range, Tensor, list[Any]] | None:
            made = next(computed, None)
            if made is not None:
                rows.write(*made)
            return None if rows.is_shared or ranks == 1 else made

        for _ in range(0, len(missing), ranks):
            for made in from_all_ranks(write_next):
                if made is not None:
                    rows.write(*made)
        from_all_ranks(lambda: check_seen(rows, asked.folder))
    return rows


def _computed(
    source: Source, takes: TakesRows, asked: Request, units: list[range]
) -> Iterator[tuple[range, Tensor, list[Any]]]:
    """Yield each unit with its rows and what is kept of its samples."""
    size, prefix = asked.batch_size, takes.prefix
    # The last batch is filled up with its last sample: the kernels may depend on the size.
    batches = [
        [min(first + i, unit.stop - 1) for i in range(size)]
        for unit in units
        for first in range(unit.start, unit.stop, size)
    ]
    loader = DataLoader(
        source.samples, batch_sampler=batches, collate_fn=source.collate, num_workers=asked.workers
    )
    console = Console(file=sys.stderr)
    is_shown = console.is_terminal and place_among_ranks()[0] == 0
    shown = track(
        loader,
        "computing the frozen prefix",
        total=len(batches),
        console=console,
        disable=not is_shown,
        transient=True,
    )
    given = iter(shown)
    for unit in units:
        made, samples = [], []
        for _ in units_of(len(unit), size):
            kept, batch = next(given)
            # With gradients enabled, as in training: some kernels are chosen by that.
            with torch.enable_grad():
                found = outputs_of(source.model, partial(source.run, batch), prefix.cut)
            made.append(takes.encoding.encode(prefix.rows(found, size).detach()).cpu())
            samples.extend(kept)
        yield unit, torch.cat(made)[: len(unit)], samples[: len(unit)]
    next(given, None)  # ends the line of progress


def _after(earlier: Features | None, prefix: Prefix, images: Source, count: int) -> Source | None:
    """Return features of before from which the new ones can be computed, bit for bit."""
    if earlier is None or not earlier.takes.comes_before(prefix):
        return None
    width = earlier.takes.width
    samples = FromRows(earlier.rows, earlier.place, width, count)
    return Source(images.model, samples, images.place, images.call)


def _size_error(source: Source, prefix: Prefix, batch_size: int) -> float:
    """Return how far features depend on the size of the batch, relative to the largest."""
    # One sample alone is not taken by a batch norm that is trained between two parts of the prefix.
    other = batch_size // 2 if batch_size > 3 else batch_size + 1
    sizes = batch_size, other
    whole, part = (
        prefix.rows(outputs_of(source.model, partial(source.run, batch), prefix.cut), size)
        for size, batch in zip(sizes, source.checked(sizes), strict=True)
    )
    both = min(batch_size, other)
    return apart(whole[:both], part[:both]) if whole.is_floating_point() else 0.0


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


def _check_whole(model: nn.Module) -> None:
    sharded = [name for name, p in model.named_parameters() if isinstance(p, DTensor)]
    if sharded:
        raise CacheError(
            f"{some(sharded)} is sharded over ranks (fully_shard), and a cache needs the whole "
            "model; train with DistributedDataParallel, or without a cache"
        )
