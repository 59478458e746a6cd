"""Packing, unpacking and using bits on CUDA: one kernel each, which reads and writes memory once.

The kernels are written in Triton, which torch installs on Linux. With the environment variable
TRITON_INTERPRET=1 they run on CPU tensors, slowly.
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

BLOCK = 2048
"""Elements per program; a multiple of 8, so that no two programs write one byte."""

TYPES = frozenset({torch.float32, torch.float16, torch.bfloat16, torch.uint8})
"""Types that the kernels take: float32, in which they compute, holds every value of these."""


def pack(values: Tensor, low: float, high: float, inside: bool) -> Tensor:
    """Pack as `freezekit.lean.bits.pack_bits` does; `values` is of one of `TYPES`."""
    numel = values.numel()
    bits = values.new_empty((numel + 7) // 8, dtype=torch.uint8)
    _launch(_pack, values, (values, bits, numel, low, high, high != inf, inside))
    return bits


def unpack(bits: Tensor, numel: int, zero: float, one: float, dtype: torch.dtype) -> Tensor:
    """Unpack as `freezekit.lean.bits.unpack_bits` does."""
    values = bits.new_empty(numel, dtype=dtype)
    stored = values.view(torch.uint8) if dtype == torch.bool else values
    _launch(_unpack, values, (bits, stored, numel, zero, one))
    return values


def backward(
    grad: Tensor, bits: Tensor, zero: float, one: float, operator: str, constants: tuple[float, ...]
) -> Tensor:
    """Run a backward operator on bits as `freezekit.lean.bits.bits_backward` does.

    `grad` is of one of `TYPES`.
    """
    factors = _factors(operator, zero, one, constants)
    out = torch.empty_like(grad)
    _launch(_multiply, grad, (grad, bits, out, grad.numel(), *factors))
    return out


@lru_cache(maxsize=256)
def _factors(
    operator: str, zero: float, one: float, constants: tuple[float, ...]
) -> tuple[float, float]:
    """Return the factor that torch's operator applies to a gradient, at each of two values."""
    run = getattr(torch.ops.aten, operator)
    values = torch.tensor([zero, one], dtype=torch.float32, device="cpu")
    at_zero, at_one = run(torch.ones_like(values), values, *constants).tolist()
    return at_zero, at_one


def _launch(kernel: Any, tensor: Tensor, args: tuple[Any, ...]) -> None:  # Any: Triton is untyped
    if tensor.numel():
        with torch.cuda.device_of(tensor):
            kernel[(triton.cdiv(tensor.numel(), BLOCK),)](*args, block=BLOCK)


_kernel: Callable[[Callable[..., None]], Any] = triton.jit  # Any: as above


@_kernel
def _pack(  # type: ignore[no-untyped-def]  # Triton is untyped, here and below
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
    # A factor of 0 gives 0, as in torch's operators; a product would pass on NaN and sign.
    tl.store(out + at, tl.where(factor == 0, 0.0, given * factor), mask=at < numel)
