"""A batch norm with fixed statistics and a frozen weight, which saves nothing of its input."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class FixedBatchNorm(torch.autograd.Function):
    """Batch norm in eval mode whose weight needs no gradient; it does not save its input.

    The gradient of the input is the gradient of the output times one factor per channel. On the CPU
    in float32 this is computed directly, with the roundings of torch's kernel; that kernel reads
    the input without need. In all other cases torch's kernel runs, and the gradient of the output
    takes the place of its input.
    """

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
        differentiable = torch.is_grad_enabled()
        by_factors = (
            grad.device.type == "cpu"
            and grad.dtype == variance.dtype == torch.float32
            and grad.stride() == ctx.stride  # the kernel returns the layout of the input
            and not wants_bias
        )
        if differentiable or by_factors:
            others = [d for d in range(grad.ndim) if d != 1]
            to_bias = grad.sum(others) if wants_bias else None
            to_input = _scaled(grad, variance, weight, ctx.eps) if wants_input else None
            return to_input, None, None, None, to_bias, None
        placeholder = grad
        if grad.stride() != ctx.stride:  # the layout of the input decides which kernel runs
            placeholder = torch.empty_strided(
                grad.shape, ctx.stride, dtype=grad.dtype, device=grad.device
            ).zero_()
        none = variance.new_empty(0)
        mask = [wants_input, False, wants_bias]
        to_input, _, to_bias = torch.ops.aten.native_batch_norm_backward(
            grad, placeholder, weight, mean, variance, none, none, False, ctx.eps, mask
        )
        return to_input, None, None, None, to_bias, None


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
