"""A batch norm with fixed statistics and a frozen weight, which saves nothing of its input."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class FixedBatchNorm(torch.autograd.Function):
    """Batch norm in eval mode whose weight needs no gradient; it does not save its input."""

    @staticmethod
    def forward(  # Any: the context is torch's own, as in `backward`
        ctx: Any,
        image: Tensor,
        mean: Tensor,
        variance: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
    ) -> Tensor:
        """Return the normalised input, of the same shape."""
        ctx.save_for_backward(mean, variance, weight)
        ctx.eps = eps
        ctx.stride = image.stride()
        ctx.set_materialize_grads(False)
        return nn.functional.batch_norm(image, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        """Return the gradients of input and bias."""
        if grad is None:
            return (None,) * 6
        mean, variance, weight = ctx.saved_tensors
        wants_input, _, _, _, wants_bias, _ = ctx.needs_input_grad
        compute = DifferentiableGradients.apply if torch.is_grad_enabled() else _gradients
        to_input, to_bias = compute(
            grad, mean, variance, weight, ctx.eps, ctx.stride, (wants_input, wants_bias)
        )
        return to_input, None, None, None, to_bias, None


class DifferentiableGradients(torch.autograd.Function):
    """The gradients under `create_graph=True`: the bits of `_gradients`, and a derivative.

    The gradient of the input is linear in that of the output, and that of the bias is a sum of it.
    """

    @staticmethod
    def forward(  # Any: the context is torch's own, as in `backward`
        ctx: Any,
        grad: Tensor,
        mean: Tensor,
        variance: Tensor,
        weight: Tensor | None,
        eps: float,
        stride: tuple[int, ...],
        wanted: tuple[bool, bool],
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients of input and bias."""
        ctx.save_for_backward(variance, weight)
        ctx.eps, ctx.shape, ctx.dtype = eps, grad.shape, grad.dtype
        ctx.set_materialize_grads(False)
        return _gradients(grad, mean, variance, weight, eps, stride, wanted)

    @staticmethod
    def backward(
        ctx: Any, of_input: Tensor | None, of_bias: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """Return the gradient of the output's gradient."""
        variance, weight = ctx.saved_tensors
        found = None
        if of_input is not None:
            found = _scaled(of_input, variance, weight, ctx.eps)
        if of_bias is not None:
            by_channel = (1, -1, *[1] * (len(ctx.shape) - 2))
            spread = of_bias.view(by_channel).expand(ctx.shape).to(ctx.dtype)
            found = spread if found is None else found + spread
        return found, None, None, None, None, None, None


def _gradients(
    grad: Tensor,
    mean: Tensor,
    variance: Tensor,
    weight: Tensor | None,
    eps: float,
    stride: tuple[int, ...],
    wanted: tuple[bool, bool],
) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of input and bias, with the bits of torch's kernel.

    The gradient of the input is the gradient of the output times one factor per channel. On the CPU
    in float32 this is computed directly, with the roundings of torch's kernel; that kernel reads
    the input without need. In all other cases torch's kernel runs, and the gradient of the output
    takes the place of its input.

    Args:
        grad: Gradient of the output, shape (batch, channels, ...).
        mean: Of the batch norm, shape (channels,).
        variance: Likewise.
        weight: Likewise.
        eps: Of the batch norm.
        stride: Strides of the input.
        wanted: Whether the gradient of the input is wanted, and that of the bias.
    """
    wants_input, wants_bias = wanted
    by_factors = (
        grad.device.type == "cpu"
        and grad.dtype == variance.dtype == torch.float32
        and grad.stride() == stride  # the kernel returns the layout of the input
        and not wants_bias
    )
    if by_factors:
        return _scaled(grad, variance, weight, eps) if wants_input else None, None
    placeholder = grad
    if grad.stride() != stride:  # the layout of the input decides which kernel runs
        placeholder = torch.empty_strided(
            grad.shape, stride, dtype=grad.dtype, device=grad.device
        ).zero_()
    none = variance.new_empty(0)
    to_input, _, to_bias = torch.ops.aten.native_batch_norm_backward(
        grad,
        *(placeholder, weight, mean, variance, none, none),
        *(False, eps, [wants_input, False, wants_bias]),
    )
    return to_input, to_bias


def _scaled(grad: Tensor, variance: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """Multiply by the inverse standard deviation, then by the weight.

    Torch's kernel computes the deviation in double precision, rounds its inverse, and multiplies in
    this order; any other order gives other bits.
    """
    by_channel = (1, -1, *[1] * (grad.ndim - 2))
    deviation = (variance.double() + eps).sqrt()
    scaled = grad * (1 / deviation).to(variance.dtype).view(by_channel)
    if weight is not None:
        weight = weight.view(by_channel)
        scaled = scaled * weight if torch.is_grad_enabled() else scaled.mul_(weight)
    return scaled.to(grad.dtype)
