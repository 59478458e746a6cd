"""Operators that hold a mask as bits: one bit for an element of a boolean tensor, which has a byte.

A byte holds elements that lie far apart: the first of each half, quarter or eighth of the mask. So
elements that are neighbours in memory lie in neighbouring bytes, whatever the layout, and vector
instructions pack many bytes at once. `splits` says into how many parts each dimension is cut. The
product is the number of elements in a byte. `lowering` generates kernels for these operators.
"""

from __future__ import annotations

from math import gcd, prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

BITS = 8

_library = torch.library.Library("freezekit", "FRAGMENT")
_library.define("pack_mask(Tensor mask, int[] splits) -> Tensor")
_library.define("unpack_mask(Tensor bits, int[] splits) -> Tensor")


def splits_of(sizes: Sequence[Any]) -> list[int]:  # Any: an int, or torch's symbol for one
    """Return into how many parts to cut each dimension of a mask, the outer ones first.

    The innermost dimension, to which vector instructions apply, is cut last: in channels-last
    memory that is the second one. A size that is not known is not cut.

    Example:
        >>> splits_of([4, 64, 56, 56]), splits_of([2, 5, 7, 8]), splits_of([3, 5])
        ([4, 1, 2, 1], [2, 1, 1, 4], [1, 1])
    """
    last = len(sizes) - 1
    splits, left = [1] * len(sizes), BITS
    for dim in dict.fromkeys((0, *range(2, last), min(1, last), last)):
        if isinstance(sizes[dim], int):
            splits[dim] = gcd(sizes[dim], left)
            left //= splits[dim]
    return splits


def _pack(mask: Tensor, splits: list[int]) -> Tensor:
    dims = len(splits)
    cut = [
        n for size, parts in zip(mask.shape, splits, strict=True) for n in (parts, size // parts)
    ]
    order = (*range(0, 2 * dims, 2), *range(1, 2 * dims, 2))
    parts = mask.reshape(cut).permute(order).flatten(0, dims - 1)
    return (parts * _weights(splits, mask).flatten(0, dims - 1)).sum(0, dtype=torch.uint8)


def _unpack(bits: Tensor, splits: list[int]) -> Tensor:
    dims = len(splits)
    parts = (bits & _weights(splits, bits)).ne(0)
    order = [dim for pair in zip(range(dims), range(dims, 2 * dims), strict=True) for dim in pair]
    sizes = [parts * size for parts, size in zip(splits, bits.shape, strict=True)]
    return parts.permute(order).reshape(sizes)


def _weights(splits: list[int], like: Tensor) -> Tensor:
    """Return the value of each part's bit, shape (*splits, 1, ... 1)."""
    shifts = torch.arange(prod(splits), dtype=torch.uint8, device=like.device)
    return (torch.ones_like(shifts) << shifts).view(*splits, *[1] * len(splits))


_library.impl("pack_mask", _pack, "CompositeExplicitAutograd")
_library.impl("unpack_mask", _unpack, "CompositeExplicitAutograd")

PACK = torch.ops.freezekit.pack_mask.default
UNPACK = torch.ops.freezekit.unpack_mask.default
