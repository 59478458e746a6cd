"""One bit per element: what is left of an activation of which a gradient asks a sign or a range.

Operators that any device and fake tensors run. The CPU packs with NumPy, several times as fast as
any combination of torch operators there. CUDA has kernels of its own (`bits_on_cuda`) where Triton
is at hand; elsewhere plain torch does it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from numpy.typing import NDArray

CHUNK = 1 << 20  # elements at a time on the CPU: more than the calls cost, and little memory
CHUNK_ELSEWHERE = 1 << 24
_GATHER = 0x8040201008040201 - (1 << 64)  # times eight bytes of 0 or 1: their bits in the top byte

_library = torch.library.Library("freezekit", "DEF")
_library.define("pack_bits(Tensor values, float low, float high, bool inside) -> Tensor")
_library.define(
    "unpack_bits(Tensor bits, int numel, float zero, float one, ScalarType dtype) -> Tensor"
)
_library.define(
    "bits_backward("
    "Tensor grad, Tensor bits, float zero, float one, str operator, float[] numbers) -> Tensor"
)


@dataclass(frozen=True)
class Question:
    """The one bit that a backward formula asks of each element, and values that answer it alike.

    Attributes:
        low, high, inside: As `pack_bits` takes them.
        zero, one: What to give the formula for each bit.
    """

    low: float
    high: float
    zero: float
    one: float
    inside: bool = False

    def ask(self, tensor: Tensor) -> Tensor:
        """Return the bits of a dense tensor, in the order of memory."""
        with torch.no_grad():
            return pack_bits(tensor, self.low, self.high, inside=self.inside)


def pack_bits(values: Tensor, low: float, high: float, *, inside: bool = False) -> Tensor:
    """Return one bit per element: whether a value is at or beyond one of two bounds.

    A NaN is beyond neither; with `inside` it is not between them either.

    Args:
        values: Any shape; elements are taken in the order in which they lie in memory, which must
            be without gaps.
        low: A value at or below it gives 1.
        high: A value at or above it gives 1.
        inside: Give instead 1 where a value lies between the bounds, without them.

    Returns:
        Shape (ceil(elements / 8),), uint8; the last byte is filled up with anything.

    Example:
        >>> from math import inf
        >>> pack_bits(torch.tensor([-1.0, 0.0, 2.0, -3.0, 1.0, 1.0, 1.0, 1.0]), 0.0, inf).item()
        208
    """
    flat = flat_in_memory(values.detach())
    return _quickest("pack_bits", flat)(flat, low, high, inside)  # type: ignore[no-any-return]


def unpack_bits(bits: Tensor, numel: int, zero: float, one: float, dtype: torch.dtype) -> Tensor:
    """Return a value for each bit: `zero` or `one`, shape (numel,).

    Example:
        >>> unpack_bits(torch.tensor([208], dtype=torch.uint8), 5, 1.0, 0.0, torch.float32)
        tensor([0., 0., 1., 0., 1.])
    """
    return torch.ops.freezekit.unpack_bits(bits, numel, zero, one, dtype)  # type: ignore[no-any-return]


def bits_backward(
    grad: Tensor, bits: Tensor, zero: float, one: float, operator: str, numbers: Sequence[float]
) -> Tensor:
    """Run the backward operator of an activation function on bits instead of the activation.

    The bits are unpacked a little at a time: what stands for the activation never leaves the cache.

    Args:
        grad: Of the output; dense, its elements in the order of the bits.
        bits: As `pack_bits` gives them.
        zero: What the operator is given for a bit of 0.
        one: For a bit of 1.
        operator: Its name, such as "threshold_backward".
        numbers: Its further arguments.

    Example:
        >>> grad = torch.tensor([1.0, 2.0, 3.0, 4.0])
        >>> bits = pack_bits(torch.tensor([-1.0, 5.0, -2.0, 7.0]), 0.0, torch.inf)
        >>> bits_backward(grad, bits, 1.0, 0.0, "threshold_backward", (0.0,))
        tensor([0., 2., 0., 4.])
    """
    run = _quickest("bits_backward", grad)
    return run(grad, bits, zero, one, operator, list(numbers))  # type: ignore[no-any-return]


def _quickest(name: str, tensor: Tensor) -> Callable[..., Any]:
    """Return the function of the tensor's device, or the operator where somebody wants to see that.

    To a dispatch mode, such as one that counts memory, an operator is one step.
    """
    plain = type(tensor) is Tensor and torch._C._len_torch_dispatch_stack() == 0
    direct = _DIRECT.get((name, tensor.device.type)) if plain else None
    return direct or getattr(torch.ops.freezekit, name)


def flat_in_memory(tensor: Tensor) -> Tensor:
    """Return the elements of a dense tensor in the order in which they lie in memory."""
    return tensor.as_strided((tensor.numel(),), (1,))


def is_dense(tensor: Tensor) -> bool:
    """Tell whether the elements lie in memory without gaps or overlaps, in whatever order.

    Example:
        >>> image = torch.zeros(2, 3, 4, 4)
        >>> is_dense(image.permute(0, 2, 3, 1)), is_dense(image[:, :2])
        (True, False)
    """
    if tensor.is_contiguous():
        return True
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def _pack_on_cpu(values: Tensor, low: float, high: float, inside: bool) -> Tensor:
    bits = torch.empty((values.numel() + 7) // 8, dtype=torch.uint8, device="cpu")
    target = bits.numpy()
    for start in range(0, values.numel(), CHUNK):
        chunk = _array(values[start : start + CHUNK])
        packed = np.packbits(_compare(chunk, low, high, inside))
        target[start // 8 : start // 8 + len(packed)] = packed
    return bits


def _array(values: Tensor) -> NDArray[Any]:
    # NumPy has no bfloat16, and would round the bounds to float16
    return (
        values.float() if values.element_size() < 4 and values.is_floating_point() else values
    ).numpy()


def _pack_elsewhere(values: Tensor, low: float, high: float, inside: bool) -> Tensor:
    chunks = values.split(CHUNK_ELSEWHERE)
    return torch.cat([_pack_chunk(_compare(chunk, low, high, inside)) for chunk in chunks])


def _pack_chunk(found: Tensor) -> Tensor:
    if found.numel() % 8:
        found = torch.nn.functional.pad(found, (0, -found.numel() % 8))
    return (found.view(torch.int64) * _GATHER >> 56).to(torch.uint8)


def _compare(values: Any, low: float, high: float, inside: bool) -> Any:
    """Compare arrays of either library: hence Any."""
    if inside:
        return values > low if high == torch.inf else (values > low) & (values < high)
    return values <= low if high == torch.inf else (values <= low) | (values >= high)


def _unpack(bits: Tensor, numel: int, zero: float, one: float, dtype: torch.dtype) -> Tensor:
    table = _table(zero, one, dtype, bits.device)
    values = torch.empty(len(bits), 8, dtype=dtype, device=bits.device)
    step = _chunk(bits) // 8
    for some, part in zip(bits.split(step), values.split(step), strict=True):
        torch.index_select(table, 0, some.int(), out=part)
    return values.view(-1)[:numel]


def _backward(
    grad: Tensor, bits: Tensor, zero: float, one: float, operator: str, numbers: list[float]
) -> Tensor:
    run = getattr(torch.ops.aten, operator).grad_input
    table = _table(zero, one, grad.dtype, grad.device)
    out, step, numel = torch.empty_like(grad), _chunk(grad), grad.numel()
    given, result = flat_in_memory(grad), flat_in_memory(out)
    for start in range(0, numel, step):
        stop = min(start + step, numel)
        some = bits[start // 8 : (stop + 7) // 8].int()
        stand_in = flat_in_memory(torch.index_select(table, 0, some))[: stop - start]
        run(given[start:stop], stand_in, *numbers, grad_input=result[start:stop])
    return out


def _chunk(tensor: Tensor) -> int:
    return CHUNK if tensor.device.type == "cpu" else CHUNK_ELSEWHERE


@lru_cache(maxsize=64)
def _table(zero: float, one: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the eight values that each of the 256 bytes stands for, shape (256, 8)."""
    rows = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    return torch.from_numpy(np.where(rows, one, zero)).to(device=device, dtype=dtype)


# On CUDA


@lru_cache(maxsize=1)
def _kernels() -> ModuleType | None:
    """Return the kernels if they can be had: Triton wants a C compiler when it first runs."""
    try:
        from freezekit.lean import bits_on_cuda

        bits_on_cuda.pack(torch.ones(1, device="cuda"), 0.0, 1.0, False)
    except Exception:  # noqa: BLE001  # whatever Triton lacks, plain torch does without it
        return None
    return bits_on_cuda


def _pack_on_cuda(values: Tensor, low: float, high: float, inside: bool) -> Tensor:
    kernels = _kernels()
    if kernels is None or values.dtype not in kernels.TYPES:
        return _pack_elsewhere(values, low, high, inside)
    return kernels.pack(values, low, high, inside)  # type: ignore[no-any-return]


def _unpack_on_cuda(
    bits: Tensor, numel: int, zero: float, one: float, dtype: torch.dtype
) -> Tensor:
    kernels = _kernels()
    if kernels is None or dtype not in kernels.TYPES | {torch.bool}:
        return _unpack(bits, numel, zero, one, dtype)
    return kernels.unpack(bits, numel, zero, one, dtype)  # type: ignore[no-any-return]


def _backward_on_cuda(
    grad: Tensor, bits: Tensor, zero: float, one: float, operator: str, numbers: list[float]
) -> Tensor:
    kernels = _kernels()
    if kernels is None or grad.dtype not in kernels.TYPES:
        return _backward(grad, bits, zero, one, operator, numbers)
    return kernels.backward(grad, bits, zero, one, operator, tuple(numbers))  # type: ignore[no-any-return]


# What fake tensors see: shapes. The arguments are those of the operators.


def _packed_shape(values: Tensor, *_: object) -> Tensor:
    return values.new_empty((values.numel() + 7) // 8, dtype=torch.uint8)


def _unpacked_shape(bits: Tensor, numel: int, *values_and_dtype: Any) -> Tensor:
    return bits.new_empty(len(bits) * 8, dtype=values_and_dtype[-1])[:numel]


def _backward_shape(grad: Tensor, *_: object) -> Tensor:
    return torch.empty_like(grad)


_DIRECT: dict[tuple[str, str], Callable[..., Any]] = {
    ("pack_bits", "cpu"): _pack_on_cpu,
    ("pack_bits", "cuda"): _pack_on_cuda,
    ("unpack_bits", "cuda"): _unpack_on_cuda,
    ("bits_backward", "cpu"): _backward,
    ("bits_backward", "cuda"): _backward_on_cuda,
}
for _name, _cpu, _cuda, _elsewhere, _shape in (
    ("pack_bits", _pack_on_cpu, _pack_on_cuda, _pack_elsewhere, _packed_shape),
    ("unpack_bits", _unpack, _unpack_on_cuda, _unpack, _unpacked_shape),
    ("bits_backward", _backward, _backward_on_cuda, _backward, _backward_shape),
):
    _library.impl(_name, _cpu, "CPU")
    _library.impl(_name, _cuda, "CUDA")
    _library.impl(_name, _elsewhere, "CompositeExplicitAutograd")
    _library.impl(_name, _shape, "Meta")
