"""Where max pooling found its values, in a byte instead of eight."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHUNK = 1 << 16  # elements at a time, for the sake of memory
CHUNK_ELSEWHERE = 1 << 22  # a call costs more there
MOST_PLACES = 256  # in a window, for its places to fit a byte


@dataclass(frozen=True)
class Window:
    """The geometry of a pooling, one number per pooled dimension."""

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def steps(self) -> tuple[int, ...]:
        """By how much an index into the flattened input grows with each dimension's own."""
        return tuple(torch.Size(self.size[i + 1 :]).numel() for i in range(len(self.size)))

    @cached_property
    def distances(self) -> list[int]:
        """How far each place of a window is from its first, as indices go."""
        reach = [range(0, k * d, d) for k, d in zip(self.kernel, self.dilation, strict=True)]
        return [
            sum(at * step for at, step in zip(place, self.steps, strict=True))
            for place in product(*reach)
        ]

    @property
    def fits(self) -> bool:
        """Whether a byte tells the place: no two are equally far, as in a window wider than all."""
        distances = self.distances
        return len(distances) <= MOST_PLACES and len(set(distances)) == len(distances)


@dataclass(frozen=True)
class Pooled:
    """The indices that max pooling returned, as places in their windows."""

    places: Tensor
    window: Window

    @classmethod
    def of(cls, indices: Tensor, window: Window) -> Pooled:
        """Keep indices, of shape (..., *pooled dimensions), int64, of a window that `fits`.

        Example:
            >>> pool = torch.nn.MaxPool1d(3, stride=2, return_indices=True)
            >>> _, indices = pool(torch.tensor([[0.0, 1.0, 5.0, 2.0, 3.0]]))
            >>> kept = Pooled.of(indices, Window((5,), (3,), (2,), (0,), (1,)))
            >>> kept.places, kept.restore()
            (tensor([[2, 0]], dtype=torch.uint8), tensor([[2, 2]]))
        """
        table = _table(_places_by_distance, window, indices.device)
        places = torch.empty_like(indices, dtype=torch.uint8)
        begins = _begins(indices, window)
        for part in _parts(indices):
            places[part] = torch.take(table, indices[part] - _firsts(begins, part, indices.ndim))
        return cls(places, window)

    def restore(self) -> Tensor:
        """Return the indices."""
        table = _table(_distances_by_place, self.window, self.places.device)
        indices = torch.empty_like(self.places, dtype=torch.int64)
        begins = _begins(self.places, self.window)
        for part in _parts(indices):
            first = _firsts(begins, part, indices.ndim)
            torch.add(torch.take(table, self.places[part].long()), first, out=indices[part])
        return indices


def _table(
    make: Callable[[Window, torch.device], Tensor], window: Window, device: torch.device
) -> Tensor:
    """Return a table on a device; kept, as a copy makes the device wait, and no graph captures it.

    Not under a dispatch mode, such as that of fake tensors.
    """
    if torch._C._len_torch_dispatch_stack():
        return make(window, device)
    return _kept(make, window, device)


@lru_cache(maxsize=64)
def _kept(
    make: Callable[[Window, torch.device], Tensor], window: Window, device: torch.device
) -> Tensor:
    return make(window, device)


def _places_by_distance(window: Window, device: torch.device) -> Tensor:
    table = [0] * (max(window.distances) + 1)
    for place, distance in enumerate(window.distances):
        table[distance] = place
    return torch.tensor(table, dtype=torch.uint8, device=device)


def _distances_by_place(window: Window, device: torch.device) -> Tensor:
    return torch.tensor(window.distances, dtype=torch.int64, device=device)


def _begins(pooled: Tensor, window: Window) -> list[Tensor]:
    """Return for each pooled dimension what it adds to the index at which a window begins.

    The sum may lie in the padding, before the first element.
    """
    dimensions = len(window.size)
    counts = pooled.shape[pooled.ndim - dimensions :]
    return [
        (torch.arange(count, device=pooled.device) * stride - padding) * step
        for count, stride, padding, step in zip(
            counts, window.stride, window.padding, window.steps, strict=True
        )
    ]


def _firsts(begins: list[Tensor], part: tuple[slice, ...], ndim: int) -> Tensor:
    """Return the index at which each window of a part begins, shape of its pooled dimensions."""
    pooled = (*part, *[slice(None)] * (ndim - len(part)))[ndim - len(begins) :]
    first = torch.zeros((), dtype=torch.int64, device=begins[0].device)
    for i, (begin, those) in enumerate(zip(begins, pooled, strict=True)):
        first = first + begin[those].view(-1, *[1] * (len(begins) - 1 - i))
    return first


def _parts(tensor: Tensor) -> Iterator[tuple[slice, ...]]:
    """Yield slices of the first dimensions, which give parts of a bounded number of elements."""
    most = CHUNK if tensor.device.type == "cpu" else CHUNK_ELSEWHERE
    return _parts_of(tuple(tensor.shape), most)


def _parts_of(shape: tuple[int, ...], most: int) -> Iterator[tuple[slice, ...]]:
    """Do so for a shape.

    Example:
        >>> list(_parts_of((1, 4, 2, 5), 20))
        [(slice(0, 1, None), slice(0, 2, None)), (slice(0, 1, None), slice(2, 4, None))]
    """
    if prod(shape) <= most or not shape:
        yield ()
        return
    rows = max(1, most // prod(shape[1:]))
    for start in range(0, shape[0], rows):
        for tail in _parts_of(shape[1:], most) if rows == 1 else ((),):
            yield slice(start, min(start + rows, shape[0])), *tail
