"""The torch operators of bits, and which implementation each device runs.

As operators, they are single steps to autograd, to fake tensors and to whatever counts memory.
CUDA runs the kernels of `bits_on_cuda` where Triton works, and plain torch elsewhere.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from freezekit.lean import bits_in_torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

_library = torch.library.Library("freezekit", "DEF")
_library.define("pack_bits(Tensor values, float low, float high, bool inside) -> Tensor")
_library.define(
    "unpack_bits(Tensor bits, int numel, float zero, float one, ScalarType dtype) -> Tensor"
)
_library.define(
    "bits_backward("
    "Tensor grad, Tensor bits, float zero, float one, str operator, float[] constants) -> Tensor"
)


@lru_cache(maxsize=1)
def cuda_kernels() -> ModuleType | None:
    """Return the module of CUDA kernels, or None where Triton does not run.

    Triton needs a C compiler when it first runs a kernel, so that one is run here.
    """
    try:
        from freezekit.lean import bits_on_cuda

        bits_on_cuda.pack(torch.ones(1, device="cuda"), 0.0, 1.0, False)
    except Exception:  # noqa: BLE001  # whatever Triton lacks, plain torch runs without it
        return None
    return bits_on_cuda


def _pack_on_cuda(values: Tensor, low: float, high: float, inside: bool) -> Tensor:
    kernels = cuda_kernels()
    if kernels is None or values.dtype not in kernels.TYPES:
        return bits_in_torch.pack(values, low, high, inside)
    return kernels.pack(values, low, high, inside)  # type: ignore[no-any-return]


def _unpack_on_cuda(
    bits: Tensor, numel: int, zero: float, one: float, dtype: torch.dtype
) -> Tensor:
    kernels = cuda_kernels()
    if kernels is None or dtype not in kernels.TYPES | {torch.bool}:
        return bits_in_torch.unpack(bits, numel, zero, one, dtype)
    return kernels.unpack(bits, numel, zero, one, dtype)  # type: ignore[no-any-return]


def _backward_on_cuda(
    grad: Tensor, bits: Tensor, zero: float, one: float, operator: str, constants: list[float]
) -> Tensor:
    kernels = cuda_kernels()
    if kernels is None or grad.dtype not in kernels.TYPES:
        return bits_in_torch.backward(grad, bits, zero, one, operator, constants)
    return kernels.backward(grad, bits, zero, one, operator, tuple(constants))  # type: ignore[no-any-return]


# Fake tensors and "meta" need shapes alone. The arguments are those of the operators.


def _shape_of_packed(values: Tensor, *_: object) -> Tensor:
    return values.new_empty((values.numel() + 7) // 8, dtype=torch.uint8)


def _shape_of_unpacked(bits: Tensor, numel: int, *values_and_dtype: Any) -> Tensor:
    return bits.new_empty(len(bits) * 8, dtype=values_and_dtype[-1])[:numel]


def _shape_of_gradient(grad: Tensor, *_: object) -> Tensor:
    return torch.empty_like(grad)


DIRECT: dict[tuple[str, str], Callable[..., Any]] = {
    ("pack_bits", "cpu"): bits_in_torch.pack_on_cpu,
    ("pack_bits", "cuda"): _pack_on_cuda,
    ("bits_backward", "cpu"): bits_in_torch.backward,
    ("bits_backward", "cuda"): _backward_on_cuda,
}
"""The function that an operator runs on a device: `freezekit.lean.bits` may call it directly."""

for _name, _cpu, _cuda, _elsewhere, _shape in (
    ("pack_bits", bits_in_torch.pack_on_cpu, _pack_on_cuda, bits_in_torch.pack, _shape_of_packed),
    (
        "unpack_bits",
        bits_in_torch.unpack,
        _unpack_on_cuda,
        bits_in_torch.unpack,
        _shape_of_unpacked,
    ),
    (
        "bits_backward",
        bits_in_torch.backward,
        _backward_on_cuda,
        bits_in_torch.backward,
        _shape_of_gradient,
    ),
):
    _library.impl(_name, _cpu, "CPU")
    _library.impl(_name, _cuda, "CUDA")
    _library.impl(_name, _elsewhere, "CompositeExplicitAutograd")
    _library.impl(_name, _shape, "Meta")
