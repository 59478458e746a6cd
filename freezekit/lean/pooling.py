"""The positions at which max pooling found its values, in one byte each instead of eight."""

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

CHUNK = 1 << 16
"""Elements per chunk on the CPU: the int64 scratch of a chunk stays small."""

CHUNK_ELSEWHERE = 1 << 22
"""Elements per chunk on other devices, where a call costs more."""

MAX_POSITIONS = 256
"""Positions in a window that one byte can tell apart."""


@dataclass(frozen=True)
class Window:
    """The geometry of a pooling, one number per pooled dimension.

    Attributes:
        size: Of the input.
        kernel, stride, padding, dilation: Of the window.
    """

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def index_steps(self) -> tuple[int, ...]:
        """How much an index into the flattened input grows per step along each dimension."""
        return tuple(torch.Size(self.size[i + 1 :]).numel() for i in range(len(self.size)))

    @cached_property
    def offsets(self) -> list[int]:
        """Index of each position of a window, counted from the index of its first position."""
        reach = [range(0, k * d, d) for k, d in zip(self.kernel, self.dilation, strict=True)]
        return [
            sum(at * step for at, step in zip(position, self.index_steps, strict=True))
            for position in product(*reach)
        ]

    @property
    def fits_byte(self) -> bool:
        """Whether one byte tells the position.

        It does not where two positions have the same offset, as in a window wider than the input.
        """
        offsets = self.offsets
        return len(offsets) <= MAX_POSITIONS and len(set(offsets)) == len(offsets)


@dataclass(frozen=True)
class SavedIndices:
    """The indices that max pooling returned, as positions in their windows."""

    positions: Tensor
    window: Window

    @classmethod
    def of(cls, indices: Tensor, window: Window) -> SavedIndices:
        """Save indices.

        Args:
            indices: Shape (..., *pooled dimensions), int64.
            window: One that `fits_byte`.

        Example:
            >>> pool = torch.nn.MaxPool1d(3, stride=2, return_indices=True)
            >>> _, indices = pool(torch.tensor([[0.0, 1.0, 5.0, 2.0, 3.0]]))
            >>> saved = SavedIndices.of(indices, Window((5,), (3,), (2,), (0,), (1,)))
            >>> saved.positions, saved.restore()
            (tensor([[2, 0]], dtype=torch.uint8), tensor([[2, 2]]))
        """
        table = _table(_position_of_offset, window, indices.device)
        positions = torch.empty_like(indices, dtype=torch.uint8)
        starts = _starts(indices, window)
        for part in _parts(indices):
            offsets = indices[part] - _starts_of_part(starts, part, indices.ndim)
            positions[part] = torch.take(table, offsets)
        return cls(positions, window)

    def restore(self) -> Tensor:
        """Return the indices."""
        table = _table(_offset_of_position, self.window, self.positions.device)
        indices = torch.empty_like(self.positions, dtype=torch.int64)
        starts = _starts(self.positions, self.window)
        for part in _parts(indices):
            start = _starts_of_part(starts, part, indices.ndim)
            torch.add(torch.take(table, self.positions[part].long()), start, out=indices[part])
        return indices


def _table(
    make: Callable[[Window, torch.device], Tensor], window: Window, device: torch.device
) -> Tensor:
    """Return a table on a device, from a cache.

    Without the cache, each call would copy the table to the device and wait, which CUDA graphs
    cannot capture. Under a dispatch mode, such as that of fake tensors, the cache is not used.
    """
    if torch._C._len_torch_dispatch_stack():
        return make(window, device)
    return _cached_table(make, window, device)


@lru_cache(maxsize=64)
def _cached_table(
    make: Callable[[Window, torch.device], Tensor], window: Window, device: torch.device
) -> Tensor:
    return make(window, device)


def _position_of_offset(window: Window, device: torch.device) -> Tensor:
    table = [0] * (max(window.offsets) + 1)
    for position, offset in enumerate(window.offsets):
        table[offset] = position
    return torch.tensor(table, dtype=torch.uint8, device=device)


def _offset_of_position(window: Window, device: torch.device) -> Tensor:
    return torch.tensor(window.offsets, dtype=torch.int64, device=device)


def _starts(pooled: Tensor, window: Window) -> list[Tensor]:
    """Return what each pooled dimension contributes to the index at which a window starts.

    The sum can be negative or too small: the window then starts in the padding.
    """
    dimensions = len(window.size)
    counts = pooled.shape[pooled.ndim - dimensions :]
    return [
        (torch.arange(count, device=pooled.device) * stride - padding) * step
        for count, stride, padding, step in zip(
            counts, window.stride, window.padding, window.index_steps, strict=True
        )
    ]


def _starts_of_part(starts: list[Tensor], part: tuple[slice, ...], ndim: int) -> Tensor:
    """Return the start index of each window of a part, in the shape of its pooled dimensions."""
    pooled = (*part, *[slice(None)] * (ndim - len(part)))[ndim - len(starts) :]
    total = torch.zeros((), dtype=torch.int64, device=starts[0].device)
    for i, (start, chosen) in enumerate(zip(starts, pooled, strict=True)):
        total = total + start[chosen].view(-1, *[1] * (len(starts) - 1 - i))
    return total


def _parts(tensor: Tensor) -> Iterator[tuple[slice, ...]]:
    """Yield slices of the leading dimensions, each a part of about a chunk of elements at most."""
    chunk = CHUNK if tensor.device.type == "cpu" else CHUNK_ELSEWHERE
    return _parts_of(tuple(tensor.shape), chunk)


def _parts_of(shape: tuple[int, ...], chunk: int) -> Iterator[tuple[slice, ...]]:
    """Yield the slices for a shape.

    Example:
        >>> list(_parts_of((1, 4, 2, 5), 20))
        [(slice(0, 1, None), slice(0, 2, None)), (slice(0, 1, None), slice(2, 4, None))]
    """
    if prod(shape) <= chunk or not shape:
        yield ()
        return
    rows = max(1, chunk // prod(shape[1:]))
    for start in range(0, shape[0], rows):
        for tail in _parts_of(shape[1:], chunk) if rows == 1 else ((),):
            yield slice(start, min(start + rows, shape[0])), *tail
