"""One bit per element: all that a gradient needs of some activations is a sign or a range.

The functions here run on every device and on fake tensors. `bit_operators` registers them as torch
operators and names the implementation for each device: `bits_in_torch` for the CPU and for devices
without kernels of their own, `bits_on_cuda` for CUDA with Triton.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from freezekit.lean.bit_operators import DIRECT
from freezekit.lean.bits_in_torch import CHUNK as CHUNK
from freezekit.lean.dense import flat_in_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True)
class BitEncoding:
    """How an activation becomes one bit per element, and which value stands for each bit.

    A backward formula needs one comparison of each element. It gives the same result for the
    element itself and for the value that stands for the element's bit.

    Attributes:
        low, high, inside: The comparison, as `pack_bits` takes it.
        zero, one: The value that the formula is given for a bit of 0, and for a bit of 1.
    """

    low: float
    high: float
    zero: float
    one: float
    inside: bool = False

    def encode(self, tensor: Tensor) -> Tensor:
        """Return the bits of a dense tensor, in memory order."""
        with torch.no_grad():
            return pack_bits(tensor, self.low, self.high, inside=self.inside)


def pack_bits(values: Tensor, low: float, high: float, *, inside: bool = False) -> Tensor:
    """Return one bit per element: 1 where the value is at or beyond one of two bounds.

    A NaN gives 0, with `inside` too.

    Args:
        values: Any shape; dense. The elements are taken in memory order.
        low: A value at or below it gives 1.
        high: A value at or above it gives 1.
        inside: Give 1 where the value lies strictly between the bounds instead.

    Returns:
        Shape (ceil(elements / 8),), uint8. The unused bits of the last byte are arbitrary.

    Example:
        >>> from math import inf
        >>> pack_bits(torch.tensor([-1.0, 0.0, 2.0, -3.0, 1.0, 1.0, 1.0, 1.0]), 0.0, inf).item()
        208
    """
    flat = flat_in_memory(values.detach())
    return _fastest("pack_bits", flat)(flat, low, high, inside)  # type: ignore[no-any-return]


def unpack_bits(bits: Tensor, numel: int, zero: float, one: float, dtype: torch.dtype) -> Tensor:
    """Return a value for each bit: `zero` or `one`, shape (numel,).

    Example:
        >>> unpack_bits(torch.tensor([208], dtype=torch.uint8), 5, 1.0, 0.0, torch.float32)
        tensor([0., 0., 1., 0., 1.])
    """
    return torch.ops.freezekit.unpack_bits(bits, numel, zero, one, dtype)  # type: ignore[no-any-return]


def bits_backward(
    grad: Tensor, bits: Tensor, zero: float, one: float, operator: str, constants: Sequence[float]
) -> Tensor:
    """Run the backward operator of an activation function on bits instead of the activation.

    The bits are unpacked in chunks that fit into the cache.

    Args:
        grad: Gradient of the output; dense, with its elements in the order of the bits.
        bits: As `pack_bits` returns them.
        zero: The value that the operator is given for a bit of 0.
        one: The value that the operator is given for a bit of 1.
        operator: Name of the operator in `torch.ops.aten`, such as "threshold_backward".
        constants: Its further arguments.

    Example:
        >>> grad = torch.tensor([1.0, 2.0, 3.0, 4.0])
        >>> bits = pack_bits(torch.tensor([-1.0, 5.0, -2.0, 7.0]), 0.0, torch.inf)
        >>> bits_backward(grad, bits, 1.0, 0.0, "threshold_backward", (0.0,))
        tensor([0., 2., 0., 4.])
    """
    run = _fastest("bits_backward", grad)
    return run(grad, bits, zero, one, operator, list(constants))  # type: ignore[no-any-return]


def _fastest(name: str, tensor: Tensor) -> Callable[..., Any]:
    """Return the function for the tensor's device; under a dispatch mode, the operator.

    A direct call saves the dispatcher's time. A dispatch mode, such as one that counts memory,
    sees an operator as one step and would see each step of the function.
    """
    is_observed = type(tensor) is not Tensor or torch._C._len_torch_dispatch_stack() > 0
    direct = None if is_observed else DIRECT.get((name, tensor.device.type))
    return direct or getattr(torch.ops.freezekit, name)
