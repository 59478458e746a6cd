"""How the tensors of one sample stand in a row: one tensor of numbers for each sample."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from freezekit.errors import CacheError


@dataclass(frozen=True)
class Leaf:
    """One tensor that a call returns, as it depends on the number of samples.

    Attributes:
        shape: Its shape for one sample. The first dimension may hold several entries of a sample,
            such as the windows of Swin.
        order: Its dimensions from the slowest to the fastest in memory; kernels may depend on it.
        dtype: Its type.
        has_samples: Whether its first dimension grows with the number of samples. If not, it is the
            same for all of them.
    """

    shape: tuple[int, ...]
    order: tuple[int, ...]
    dtype: torch.dtype
    has_samples: bool

    @property
    def numbers(self) -> int:
        """Numbers of one sample."""
        return prod(self.shape) if self.has_samples else 0

    def of(self, samples: int) -> tuple[int, ...]:
        """Return the shape for a number of samples."""
        return (self.shape[0] * samples, *self.shape[1:]) if self.has_samples else self.shape

    def stub(self, samples: int, device: torch.device) -> Tensor:
        """Return a tensor that takes no memory, and says by NaN where it was used."""
        value = float("nan") if self.dtype.is_floating_point or self.dtype.is_complex else 0
        one = torch.full((), value, dtype=self.dtype, device=device)
        return one.expand(self.of(samples))

    def to_rows(self, tensor: Tensor, samples: int) -> Tensor:
        """Return the numbers of a tensor as (samples, numbers), in the order of memory."""
        return tensor.permute(self.order).reshape(samples, self.numbers)

    def from_rows(self, rows: Tensor) -> Tensor:
        """Return the tensor of which `to_rows` made rows, with its strides."""
        shape = self.of(len(rows))
        back = [self.order.index(dim) for dim in range(len(shape))]
        return rows.to(self.dtype).reshape([shape[dim] for dim in self.order]).permute(back)


def leaf_of(few: Tensor, more: Tensor, samples: tuple[int, int], whose: str) -> Leaf:
    """Return the leaf of a tensor, seen with two numbers of samples.

    Raises:
        CacheError: Its samples are not in its first dimension.
    """
    if few.shape == more.shape:
        return Leaf(tuple(few.shape), tuple(range(few.dim())), few.dtype, has_samples=False)
    each, rest = divmod(few.shape[0], samples[0]) if few.dim() else (0, 1)
    if rest or not each or tuple(more.shape) != (each * samples[1], *few.shape[1:]):
        raise CacheError(
            f"the output of {whose} has the shape {tuple(few.shape)} for {samples[0]} samples and "
            f"{tuple(more.shape)} for {samples[1]}: it cannot be divided into samples"
        )
    order = sorted(range(1, few.dim()), key=few.stride, reverse=True)
    return Leaf((each, *few.shape[1:]), (0, *order), few.dtype, has_samples=True)
