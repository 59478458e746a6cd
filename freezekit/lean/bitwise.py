"""Activation functions whose gradient needs one bit of each element."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from freezekit.lean.bits import BitEncoding, bits_backward, unpack_bits
from freezekit.lean.deferred_packing import PackableActivation
from freezekit.lean.dense import is_dense

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit.lean.deferred_packing import DeferredPacking


@dataclass(frozen=True)
class ActivationFunction:
    """One activation function with its constants.

    Its *saved tensor* is the one that torch's backward operator reads: the output or the input.

    Attributes:
        forward: From the input, and `inplace`, to the output.
        operator: Name of torch's backward operator. It takes the gradient of the output, the saved
            tensor and `constants`.
        constants: The operator's further arguments.
        encoding: How the saved tensor becomes one bit per element.
        constants_for_bits: Takes the place of `constants` where the operator is given the values
            that stand for the bits.
        saves_input: Whether the saved tensor is the input.
    """

    forward: Callable[..., Tensor]
    operator: str
    constants: tuple[float, ...]
    encoding: BitEncoding
    constants_for_bits: tuple[float, ...]
    saves_input: bool = False

    def backward(self, grad: Tensor, saved: Tensor, stride: tuple[int, ...]) -> Tensor:
        """Return the gradient of the input.

        Args:
            grad: Gradient of the output.
            saved: The saved tensor, or its bits.
            stride: Strides of the saved tensor.
        """
        zero, one = self.encoding.zero, self.encoding.one
        packed = saved.dtype == torch.uint8
        runs_kernel = not torch.is_grad_enabled() and not _is_batch_of_gradients(grad)
        if packed and runs_kernel and grad.stride() == stride:
            return bits_backward(grad, saved, zero, one, self.operator, self.constants_for_bits)
        constants = self.constants_for_bits if packed else self.constants
        if packed:
            values = unpack_bits(saved, grad.numel(), zero, one, grad.dtype)
            saved = values.as_strided(grad.shape, stride)
        run = getattr(torch.ops.aten, self.operator)
        return run(grad, saved, *constants)  # type: ignore[no-any-return]


def _is_batch_of_gradients(grad: Tensor) -> bool:
    """Tell whether vmap runs, as under `is_grads_batched=True`: then one tensor stands for many."""
    functorch = torch._C._functorch
    return functorch.is_batchedtensor(grad) or functorch.is_legacy_batchedtensor(grad)


def run_bitwise(
    deferred_packing: DeferredPacking,
    image: Tensor,
    function: ActivationFunction,
    *,
    inplace: bool,
) -> Tensor:
    """Run an activation function so that autograd holds one bit per element.

    Where something else holds the saved tensor anyway, autograd shares it instead. Forward and
    backward run torch's own kernels.
    """
    packable = PackableActivation(function.encoding)
    if function.saves_input:
        deferred_packing.watch(packable, image)
        if inplace:  # the function is about to overwrite it
            packable.pack()
    with saved_tensors_hooks(lambda _: packable, PackableActivation.whole_or_bits):
        out: Tensor = _Bitwise.apply(image, function, inplace)
    if not function.saves_input:
        deferred_packing.watch(packable, out)
    return out


def can_run_bitwise(image: Tensor, *, inplace: bool) -> bool:
    """Tell whether `run_bitwise` takes this input."""
    if not image.is_floating_point() or not is_dense(image):
        return False
    # Torch itself tracks, or refuses, a change in place of a view or of a leaf.
    return not (inplace and (image._is_view() or image.is_leaf))


class _Bitwise(torch.autograd.Function):
    """Saves one placeholder, and leaves it to hooks what is held in its place."""

    @staticmethod
    def forward(  # Any: the context is torch's own, as in `backward`
        ctx: Any, image: Tensor, function: ActivationFunction, inplace: bool
    ) -> Tensor:
        """Return the output, of the same shape."""
        out = function.forward(image, inplace=inplace)
        if inplace:
            ctx.mark_dirty(image)
        ctx.function = function
        ctx.stride = image.stride() if function.saves_input else out.stride()
        ctx.save_for_backward(image.new_empty(0))
        ctx.set_materialize_grads(False)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        """Return the gradient of the input."""
        if grad is None:  # then torch's own functions return no gradient either
            return None, None, None
        (saved,) = ctx.saved_tensors
        return ctx.function.backward(grad, saved, ctx.stride), None, None


RELU = ActivationFunction(
    nn.functional.relu,
    "threshold_backward",
    (0.0,),
    BitEncoding(low=0.0, high=inf, zero=1.0, one=0.0),
    constants_for_bits=(0.0,),
)
HARDSIGMOID = ActivationFunction(
    nn.functional.hardsigmoid,
    "hardsigmoid_backward",
    (),
    BitEncoding(-3.0, 3.0, zero=3.0, one=0.0, inside=True),
    constants_for_bits=(),
    saves_input=True,
)


def hardtanh(low: float, high: float) -> ActivationFunction:
    """Return hardtanh between finite bounds; ReLU6 is hardtanh from 0 to 6.

    With bits, the operator is given the bounds 0 and 2 and the values 0 and 1. Every type of tensor
    holds these exactly.
    """
    return ActivationFunction(
        partial(nn.functional.hardtanh, min_val=low, max_val=high),
        "hardtanh_backward",
        (low, high),
        BitEncoding(low, high, zero=0.0, one=1.0, inside=True),
        constants_for_bits=(0.0, 2.0),
        saves_input=True,
    )


def leaky_relu(slope: float, saves_input: bool) -> ActivationFunction:
    """Return leaky ReLU of a slope above 0: then input and output have the same sign."""
    self_is_result = 0.0  # false: the operator's formula for the input holds for either tensor
    return ActivationFunction(
        partial(nn.functional.leaky_relu, negative_slope=slope),
        "leaky_relu_backward",
        (slope, self_is_result),
        BitEncoding(0.0, inf, zero=-1.0, one=1.0, inside=True),
        constants_for_bits=(slope, self_is_result),
        saves_input=saves_input,
    )
