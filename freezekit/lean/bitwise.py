"""Activation functions whose gradient asks one bit of each element."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from freezekit.lean.bits import Question, bits_backward, is_dense, unpack_bits
from freezekit.lean.deferred_packing import Pending

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit.lean.deferred_packing import Settling


@dataclass(frozen=True)
class Activation:
    """One activation function, its numbers given.

    Attributes:
        forward: From the input, and `inplace`, to the output.
        operator: The name of torch's own backward operator; called with the gradient of the output,
            the tensor that is asked or what stands for it, and `numbers`.
        numbers: The operator's further arguments.
        question: What the operator asks of each element.
        numbers_for_bits: Instead of `numbers`, with what stands for the bits.
        of_input: It asks the input, not the output: the one that torch would save.
    """

    forward: Callable[..., Tensor]
    operator: str
    numbers: tuple[float, ...]
    question: Question
    numbers_for_bits: tuple[float, ...]
    of_input: bool = False

    def backward(self, grad: Tensor, kept: Tensor, stride: tuple[int, ...]) -> Tensor:
        """Return the gradient of the input.

        Args:
            grad: Of the output.
            kept: The tensor that is asked, or its bits.
            stride: Of the tensor that is asked.
        """
        zero, one = self.question.zero, self.question.one
        packed = kept.dtype == torch.uint8
        plain = not torch.is_grad_enabled() and not _stands_for_many(grad)
        if packed and plain and grad.stride() == stride:
            return bits_backward(grad, kept, zero, one, self.operator, self.numbers_for_bits)
        numbers = self.numbers_for_bits if packed else self.numbers
        if packed:
            values = unpack_bits(kept, grad.numel(), zero, one, grad.dtype)
            kept = values.as_strided(grad.shape, stride)
        run = getattr(torch.ops.aten, self.operator)
        return run(grad, kept, *numbers)  # type: ignore[no-any-return]


def _stands_for_many(grad: Tensor) -> bool:
    """Tell whether it is a batch of gradients in disguise, as `is_grads_batched=True` passes."""
    functorch = torch._C._functorch
    return functorch.is_batchedtensor(grad) or functorch.is_legacy_batchedtensor(grad)


def run_bitwise(
    settling: Settling, image: Tensor, activation: Activation, *, inplace: bool
) -> Tensor:
    """Run an activation function so that autograd keeps a bit of each element.

    Or it shares the tensor, where something else keeps that. Forward and backward run torch's own
    kernels.
    """
    pending = Pending(activation.question)
    if activation.of_input:
        settling.watch(pending, image)
        if inplace:  # it is about to be overwritten
            pending.pack()
    with saved_tensors_hooks(lambda _: pending, Pending.tensor):
        out: Tensor = _Bitwise.apply(image, activation, inplace)
    if not activation.of_input:
        settling.watch(pending, out)
    return out


def can_run_bitwise(image: Tensor, *, inplace: bool) -> bool:
    """Tell whether `run_bitwise` takes this input."""
    if not image.is_floating_point() or not is_dense(image):
        return False
    return not (inplace and (image._is_view() or image.is_leaf))  # in torch's own hands


class _Bitwise(torch.autograd.Function):
    """Saves one tensor, and leaves it to hooks which."""

    @staticmethod
    def forward(  # Any: the context is torch's own, as in `backward`
        ctx: Any, image: Tensor, activation: Activation, inplace: bool
    ) -> Tensor:
        """Return the output, of the same shape."""
        out = activation.forward(image, inplace=inplace)
        if inplace:
            ctx.mark_dirty(image)
        ctx.activation = activation
        ctx.stride = image.stride() if activation.of_input else out.stride()
        ctx.save_for_backward(image.new_empty(0))
        ctx.set_materialize_grads(False)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        """Return the gradient of the input."""
        if grad is None:  # as torch's own functions, which pass nothing on
            return None, None, None
        (kept,) = ctx.saved_tensors
        return ctx.activation.backward(grad, kept, ctx.stride), None, None


RELU = Activation(
    nn.functional.relu,
    "threshold_backward",
    (0.0,),
    Question(low=0.0, high=inf, zero=1.0, one=0.0),
    numbers_for_bits=(0.0,),
)
HARDSIGMOID = Activation(
    nn.functional.hardsigmoid,
    "hardsigmoid_backward",
    (),
    Question(-3.0, 3.0, zero=3.0, one=0.0, inside=True),
    numbers_for_bits=(),
    of_input=True,
)


def clipped(low: float, high: float) -> Activation:
    """Return hardtanh between finite bounds, of which ReLU6 is one.

    For the bits the operator is given bounds that any type of tensor has values at and between.
    """
    return Activation(
        partial(nn.functional.hardtanh, min_val=low, max_val=high),
        "hardtanh_backward",
        (low, high),
        Question(low, high, zero=0.0, one=1.0, inside=True),
        numbers_for_bits=(0.0, 2.0),
        of_input=True,
    )


def leaky_relu(slope: float, of_input: bool) -> Activation:
    """Return leaky ReLU of a slope above 0, so that either tensor answers alike."""
    is_result = 0.0  # the operator is told that it is asked about the input
    return Activation(
        partial(nn.functional.leaky_relu, negative_slope=slope),
        "leaky_relu_backward",
        (slope, is_result),
        Question(0.0, inf, zero=-1.0, one=1.0, inside=True),
        numbers_for_bits=(slope, is_result),
        of_input=of_input,
    )
