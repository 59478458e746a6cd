"""Packing, unpacking and using bits on CUDA, each in one kernel that reads and writes once.

Written in Triton, which comes with torch on Linux. With the environment variable TRITON_INTERPRET=1
the kernels run on tensors of the CPU, slowly.
"""

from __future__ import annotations

from functools import lru_cache
from math import inf
from typing import TYPE_CHECKING, Any

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = 2048  # elements for each program
TYPES = frozenset({torch.float32, torch.float16, torch.bfloat16, torch.uint8})  # float32 holds them


def pack(values: Tensor, low: float, high: float, inside: bool) -> Tensor:
    """Return a bit for each element, as `freezekit.lean.bits.pack_bits` does; of `TYPES`."""
    numel = values.numel()
    bits = values.new_empty((numel + 7) // 8, dtype=torch.uint8)
    _launch(_pack, values, (values, bits, numel, low, high, high != inf, inside))
    return bits


def unpack(bits: Tensor, numel: int, zero: float, one: float, dtype: torch.dtype) -> Tensor:
    """Return a value for each bit, as `freezekit.lean.bits.unpack_bits` does."""
    values = bits.new_empty(numel, dtype=dtype)
    stored = values.view(torch.uint8) if dtype == torch.bool else values
    _launch(_unpack, values, (bits, stored, numel, zero, one))
    return values


def backward(
    grad: Tensor, bits: Tensor, zero: float, one: float, operator: str, numbers: tuple[float, ...]
) -> Tensor:
    """Run a backward operator on bits, as `freezekit.lean.bits.bits_backward` does; of `TYPES`."""
    factors = _factors(operator, zero, one, numbers)
    out = torch.empty_like(grad)
    _launch(_multiply, grad, (grad, bits, out, grad.numel(), *factors))
    return out


@lru_cache(maxsize=256)
def _factors(
    operator: str, zero: float, one: float, numbers: tuple[float, ...]
) -> tuple[float, float]:
    """Return what torch's operator multiplies a gradient with at each of two values."""
    run = getattr(torch.ops.aten, operator)
    values = torch.tensor([zero, one], dtype=torch.float32, device="cpu")
    at_zero, at_one = run(torch.ones_like(values), values, *numbers).tolist()
    return at_zero, at_one


def _launch(kernel: Any, tensor: Tensor, args: tuple[Any, ...]) -> None:  # Any: Triton has no types
    if tensor.numel():
        with torch.cuda.device_of(tensor):
            kernel[(triton.cdiv(tensor.numel(), BLOCK),)](*args, block=BLOCK)


_kernel: Callable[[Callable[..., None]], Any] = triton.jit  # Any: as above


@_kernel
def _pack(  # type: ignore[no-untyped-def]  # Triton has none, here and below
    values, bits, numel, low, high, bounded: tl.constexpr, inside: tl.constexpr, block: tl.constexpr
):
    first = tl.program_id(0).to(tl.int64) * (block // 8)
    byte = first + tl.arange(0, block // 8)
    place = tl.arange(0, 8)
    at = byte[:, None] * 8 + place[None, :]
    value = tl.load(values + at, mask=at < numel, other=0).to(tl.float32)
    if inside:
        found = value > low
        if bounded:
            found = found & (value < high)
    else:
        found = value <= low
        if bounded:
            found = found | (value >= high)
    packed = tl.sum(found.to(tl.int32) << (7 - place)[None, :], axis=1)
    tl.store(bits + byte, packed.to(tl.uint8), mask=byte * 8 < numel)


@_kernel
def _unpack(bits, values, numel, zero, one, block: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    byte = tl.load(bits + at // 8, mask=at < numel, other=0).to(tl.int32)
    bit = (byte >> (7 - at % 8).to(tl.int32)) & 1
    tl.store(values + at, tl.where(bit == 1, one, zero), mask=at < numel)


@_kernel
def _multiply(  # type: ignore[no-untyped-def]
    grad, bits, out, numel, at_zero, at_one, block: tl.constexpr
):
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    byte = tl.load(bits + at // 8, mask=at < numel, other=0).to(tl.int32)
    bit = (byte >> (7 - at % 8).to(tl.int32)) & 1
    factor = tl.where(bit == 1, at_one, at_zero)
    given = tl.load(grad + at, mask=at < numel, other=0).to(tl.float32)
    # where nothing passes it is 0, and not the infinity, NaN or sign of what came
    tl.store(out + at, tl.where(factor == 0, 0.0, given * factor), mask=at < numel)
