"""Where max pooling found its values, in a byte instead of eight."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import torch
from torch import Tensor

CHUNK = 1 << 15  # elements at a time, for the sake of memory
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
        first = _firsts(indices, window)
        by_distance = [0] * (max(window.distances) + 1)
        for place, distance in enumerate(window.distances):
            by_distance[distance] = place
        table = _table(by_distance, torch.uint8, indices.device)
        places = torch.empty_like(indices, dtype=torch.uint8)
        for rows in _rows(indices, len(window.size)):
            places[rows] = torch.take(table, indices[rows] - first)
        return cls(places, window)

    def restore(self) -> Tensor:
        """Return the indices."""
        first = _firsts(self.places, self.window)
        table = _table(self.window.distances, torch.int64, self.places.device)
        indices = torch.empty_like(self.places, dtype=torch.int64)
        for rows in _rows(self.places, len(self.window.size)):
            torch.add(torch.take(table, self.places[rows].long()), first, out=indices[rows])
        return indices


def _table(values: list[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return values on a device, without waiting until that has done all it was told before."""
    return torch.tensor(values, dtype=dtype, device="cpu").to(device, non_blocking=True)


def _firsts(pooled: Tensor, window: Window) -> Tensor:
    """Return the index at which each window begins, shape of the pooled dimensions.

    It may lie in the padding, before the first element.
    """
    dimensions = len(window.size)
    first = torch.zeros((), dtype=torch.int64, device=pooled.device)
    for i, step in enumerate(window.steps):
        count = pooled.shape[pooled.ndim - dimensions + i]
        begin = torch.arange(count, device=pooled.device) * window.stride[i] - window.padding[i]
        first = first + (begin * step).view(-1, *[1] * (dimensions - 1 - i))
    return first


def _rows(tensor: Tensor, dimensions: int) -> list[slice]:
    """Return slices of the first dimension, each of a bounded number of elements."""
    if tensor.ndim == dimensions:
        return [slice(None)]
    per_row = max(1, tensor[0].numel())
    rows = max(1, (CHUNK if tensor.device.type == "cpu" else CHUNK_ELSEWHERE) // per_row)
    return [slice(start, start + rows) for start in range(0, len(tensor), rows)]
