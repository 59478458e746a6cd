"""Packing, unpacking and using bits with NumPy and plain torch, on any device.

On the CPU, NumPy packs bits several times as fast as any combination of torch operators.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from freezekit.lean.dense import flat_in_memory

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK = 1 << 20
"""Elements per chunk on the CPU: enough to hide the cost of the calls, and little memory."""

CHUNK_ELSEWHERE = 1 << 24
"""Elements per chunk on other devices, where a call costs more."""

# A multiplication by this number gathers bits: where each byte of an int64 is 0 or 1, the highest
# byte of the product holds these eight bits, the lowest byte's first. `- (1 << 64)` writes the
# number as an int64, which is signed.
_GATHER_BITS = 0x8040201008040201 - (1 << 64)


def pack_on_cpu(values: Tensor, low: float, high: float, inside: bool) -> Tensor:
    """Pack as `freezekit.lean.bits.pack_bits` does, with NumPy."""
    bits = torch.empty((values.numel() + 7) // 8, dtype=torch.uint8, device="cpu")
    target = bits.numpy()
    for start in range(0, values.numel(), CHUNK):
        chunk = _as_array(values[start : start + CHUNK])
        packed = np.packbits(_compare(chunk, low, high, inside))
        target[start // 8 : start // 8 + len(packed)] = packed
    return bits


def _as_array(values: Tensor) -> NDArray[Any]:
    # NumPy has no bfloat16, and would round the bounds to float16.
    if values.is_floating_point() and values.element_size() < 4:
        values = values.float()
    return values.numpy()


def pack(values: Tensor, low: float, high: float, inside: bool) -> Tensor:
    """Pack as `freezekit.lean.bits.pack_bits` does, with torch operators."""
    chunks = values.split(CHUNK_ELSEWHERE)
    return torch.cat([_pack_chunk(_compare(chunk, low, high, inside)) for chunk in chunks])


def _pack_chunk(found: Tensor) -> Tensor:
    if found.numel() % 8:
        found = torch.nn.functional.pad(found, (0, -found.numel() % 8))
    return (found.view(torch.int64) * _GATHER_BITS >> 56).to(torch.uint8)


def _compare(values: Any, low: float, high: float, inside: bool) -> Any:
    """Compare a NumPy array or a tensor with the bounds; Any because it takes both."""
    if inside:
        return values > low if high == torch.inf else (values > low) & (values < high)
    return values <= low if high == torch.inf else (values <= low) | (values >= high)


def unpack(bits: Tensor, numel: int, zero: float, one: float, dtype: torch.dtype) -> Tensor:
    """Unpack as `freezekit.lean.bits.unpack_bits` does."""
    table = _values_of_bytes(zero, one, dtype, bits.device)
    values = torch.empty(len(bits), 8, dtype=dtype, device=bits.device)
    step = _chunk_of(bits) // 8
    for chunk, target in zip(bits.split(step), values.split(step), strict=True):
        torch.index_select(table, 0, chunk.int(), out=target)
    return values.view(-1)[:numel]


def backward(
    grad: Tensor, bits: Tensor, zero: float, one: float, operator: str, constants: list[float]
) -> Tensor:
    """Run a backward operator on bits as `freezekit.lean.bits.bits_backward` does."""
    run = getattr(torch.ops.aten, operator).grad_input
    table = _values_of_bytes(zero, one, grad.dtype, grad.device)
    out, step, numel = torch.empty_like(grad), _chunk_of(grad), grad.numel()
    flat_grad, flat_out = flat_in_memory(grad), flat_in_memory(out)
    for start in range(0, numel, step):
        stop = min(start + step, numel)
        chunk = bits[start // 8 : (stop + 7) // 8].int()
        values = flat_in_memory(torch.index_select(table, 0, chunk))[: stop - start]
        run(flat_grad[start:stop], values, *constants, grad_input=flat_out[start:stop])
    return out


def _chunk_of(tensor: Tensor) -> int:
    return CHUNK if tensor.device.type == "cpu" else CHUNK_ELSEWHERE


@lru_cache(maxsize=64)
def _values_of_bytes(zero: float, one: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the eight values that each of the 256 bytes stands for, shape (256, 8)."""
    rows = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    return torch.from_numpy(np.where(rows, one, zero)).to(device=device, dtype=dtype)
