"""How the tensors of one sample stand in a row: one tensor of numbers for each sample."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from freezekit.errors import CacheError

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Leaf:
    """One tensor that a call returns, as it depends on the number of samples.

    Attributes:
        shape: Its shape for one sample.
        order: Its dimensions from the slowest to the fastest in memory; kernels may depend on it.
        dtype: Its type.
        dim: The dimension that grows with the number of samples. It may hold several entries of a
            sample, such as the windows of Swin. None: the tensor is the same for all samples.
        in_turn: Whether that dimension holds the first entry of all samples, then the second of
            all, as `torch.cat([a, b])` does. Otherwise the entries of a sample are together.
    """

    shape: tuple[int, ...]
    order: tuple[int, ...]
    dtype: torch.dtype
    dim: int | None
    in_turn: bool = False

    @property
    def has_samples(self) -> bool:
        """Whether it is not the same for all samples."""
        return self.dim is not None

    @property
    def numbers(self) -> int:
        """Numbers of one sample."""
        return prod(self.shape) if self.has_samples else 0

    def of(self, samples: int) -> tuple[int, ...]:
        """Return the shape for a number of samples."""
        return tuple(n * samples if i == self.dim else n for i, n in enumerate(self.shape))

    def stub(self, samples: int, device: torch.device) -> Tensor:
        """Return a tensor that takes no memory, and shows where it was used.

        Its numbers are NaN, or -1 where there is none: no class, no place in a table.
        """
        value = float("nan") if self.dtype.is_floating_point else -1
        one = torch.full((), value, device=device).to(self.dtype)
        return one.expand(self.of(samples))

    def to_rows(self, tensor: Tensor, samples: int) -> Tensor:
        """Return the numbers of a tensor as (samples, numbers), in the order of memory."""
        parted, axis, order = self._parted(samples)
        first = [axis, *(dim for dim in order if dim != axis)]
        return tensor.reshape(parted).permute(first).reshape(samples, self.numbers)

    def by_sample(self, tensor: Tensor, samples: int) -> Tensor:
        """Return a tensor as (samples, *shape)."""
        parted, axis, _ = self._parted(samples)
        return tensor.reshape(parted).movedim(axis, 0)

    def from_rows(self, rows: Tensor) -> Tensor:
        """Return the tensor of which `to_rows` made rows, with the same order in memory."""
        parted, axis, order = self._parted(len(rows))
        first = [axis, *(dim for dim in order if dim != axis)]
        tensor = (
            rows.to(self.dtype).reshape([parted[dim] for dim in first]).permute(_inverse(first))
        )
        in_memory = tensor.permute(order).contiguous()  # no copy where the samples are the slowest
        return in_memory.permute(_inverse(order)).reshape(self.of(len(rows)))

    def _parted(self, samples: int) -> tuple[list[int], int, list[int]]:
        """Return shape and order with samples and the entries of one in two dimensions.

        Returns:
            The shape, the dimension of the samples, and the order in memory.
        """
        assert self.dim is not None
        pair = [samples, self.shape[self.dim]]
        shape = [*self.shape[: self.dim], *(pair[::-1] if self.in_turn else pair)]
        order = [
            dim + (dim > self.dim) + more
            for dim in self.order
            for more in ((0, 1) if dim == self.dim else (0,))
        ]
        return [*shape, *self.shape[self.dim + 1 :]], self.dim + self.in_turn, order


def leaf_of(seen: Sequence[Tensor], samples: Sequence[int], whose: str) -> Leaf:
    """Return the leaf of a tensor that a call returned for several batches.

    Args:
        seen: The tensor for the batches of `freezekit.cache.candidates.four_batches`.
        samples: The number of samples in the first and in the second batch.
        whose: What returned it.

    Raises:
        CacheError: It cannot be divided into samples, or one sample depends on the others.
    """
    whole, few, turned, mixed = seen
    leaf = leaf_by_shape(whole, few, samples, whose)
    if not leaf.has_samples:
        if all(close(whole, other) for other in seen):
            return leaf
        raise CacheError(f"{whose} depends on the other samples of the batch")
    for way in (leaf, replace(leaf, in_turn=True)):
        rows = way.to_rows(whole, samples[0])
        if (
            close(rows.roll(1, 0), way.to_rows(turned, samples[0]))
            and close(rows[: samples[1]], way.to_rows(few, samples[1]))
            and close(rows[:1], way.to_rows(mixed, samples[0])[:1])
        ):
            return way
    raise CacheError(f"{whose} depends on the other samples of the batch")


def leaf_by_shape(whole: Tensor, few: Tensor, samples: Sequence[int], whose: str) -> Leaf:
    """Return the leaf of a tensor by its shapes alone, as if the entries of a sample lie together.

    Args:
        whole: The tensor for a number of samples.
        few: The same for fewer samples.
        samples: The two numbers of samples.
        whose: What returned it.

    Raises:
        CacheError: It cannot be divided into samples.
    """
    if whole.is_complex():
        raise CacheError(f"{whose} returns complex numbers, which a row cannot hold")
    if whole.shape == few.shape:
        return Leaf(tuple(whole.shape), tuple(range(whole.dim())), whole.dtype, None)
    order = tuple(sorted(range(whole.dim()), key=whole.stride, reverse=True))
    for dim in range(whole.dim()):
        each = whole.shape[dim] // samples[0]
        shape = tuple(each if i == dim else size for i, size in enumerate(whole.shape))
        leaf = Leaf(shape, order, whole.dtype, dim)
        if (leaf.of(samples[0]), leaf.of(samples[1])) == (tuple(whole.shape), tuple(few.shape)):
            return leaf
    raise CacheError(
        f"the output of {whose} has the shape {tuple(whole.shape)} for {samples[0]} samples "
        f"and {tuple(few.shape)} for {samples[1]}: it cannot be divided into samples"
    )


def close(one: Tensor, other: Tensor, most: float = 1e-4) -> bool:
    """Tell whether tensors differ by rounding alone: kernels depend on the number of samples.

    Args:
        one: A tensor.
        other: Another.
        most: The largest difference, as a share of the largest number.
    """
    if one.shape != other.shape:
        return False
    if not one.is_floating_point():
        return torch.equal(one, other)
    largest = one.abs().nan_to_num(0, 0, 0).max().item() if one.numel() else 0.0
    return torch.allclose(one, other, rtol=1e-3, atol=most * largest, equal_nan=True)


def same(one: Tensor, other: Tensor) -> bool:
    """Tell whether tensors have the same values; NaN is the same as NaN."""
    return one.shape == other.shape and bool(((one == other) | (one.isnan() & other.isnan())).all())


def _inverse(order: Sequence[int]) -> list[int]:
    return [order.index(dim) for dim in range(len(order))]
