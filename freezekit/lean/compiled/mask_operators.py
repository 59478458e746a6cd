"""Operators that hold a mask as bits: one bit for an element of a boolean tensor, which has a byte.

The elements are taken in the order of memory of the strides that both operators are given. Inductor
may lay a mask out in another way than its graph says; it is copied then.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_library = torch.library.Library("freezekit", "FRAGMENT")
_library.define("pack_mask(Tensor mask, SymInt[] stride) -> Tensor")
_library.define("unpack_mask(Tensor bits, SymInt[] size, SymInt[] stride) -> Tensor")

# A multiplication by this number gathers bits: where each byte of an int64 is 0 or 1, the highest
# byte of the product holds these eight bits, the lowest byte's first.
_GATHER_BITS = 0x8040201008040201 - (1 << 64)
_SHIFTS = tuple(range(7, -1, -1))  # as NumPy: the first element is the highest bit


def _pack_on_cpu(mask: Tensor, stride: list[int]) -> Tensor:
    packed = np.packbits(_flat(mask, stride).numpy())
    bits = torch.empty(
        len(packed), dtype=torch.uint8
    )  # of torch's allocator, so that it is counted
    bits.numpy()[:] = packed
    return bits


def _pack(mask: Tensor, stride: list[int]) -> Tensor:
    flat = _flat(mask, stride)
    padded = torch.nn.functional.pad(flat, (0, -len(flat) % 8))
    return (padded.view(torch.int64) * _GATHER_BITS >> 56).to(torch.uint8)


def _unpack_on_cpu(bits: Tensor, size: list[int], stride: list[int]) -> Tensor:
    count = torch.Size(size).numel()
    flat = torch.from_numpy(np.unpackbits(bits.numpy(), count=count)).view(torch.bool)
    return flat.as_strided(size, stride)


def _unpack(bits: Tensor, size: list[int], stride: list[int]) -> Tensor:
    shifts = torch.tensor(_SHIFTS, dtype=torch.uint8, device=bits.device)
    flat = (bits[:, None] >> shifts & 1).view(torch.bool).flatten()
    return flat[: torch.Size(size).numel()].as_strided(size, stride)


def _flat(mask: Tensor, stride: list[int]) -> Tensor:
    """Return the elements in the order of memory of these strides, shape (elements,)."""
    if list(mask.stride()) != list(stride):
        mask = torch.empty_strided(mask.shape, stride, dtype=mask.dtype, device=mask.device).copy_(
            mask
        )
    return mask.as_strided((mask.numel(),), (1,))


def _shape_of_packed(mask: Tensor, stride: list[int]) -> Tensor:  # noqa: ARG001  # as above
    return mask.new_empty(((mask.numel() + 7) // 8,), dtype=torch.uint8)


def _shape_of_unpacked(bits: Tensor, size: list[int], stride: list[int]) -> Tensor:
    return torch.empty_strided(size, stride, dtype=torch.bool, device=bits.device)


for _name, _cpu, _elsewhere, _shape in (
    ("pack_mask", _pack_on_cpu, _pack, _shape_of_packed),
    ("unpack_mask", _unpack_on_cpu, _unpack, _shape_of_unpacked),
):
    _library.impl(_name, _cpu, "CPU")
    _library.impl(_name, _elsewhere, "CUDA")
    _library.impl(_name, _shape, "Meta")

PACK = torch.ops.freezekit.pack_mask.default
UNPACK = torch.ops.freezekit.unpack_mask.default
