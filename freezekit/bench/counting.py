"""What a model has and what a step does, counted: parameters and floating-point operations."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from freezekit.model.flops import RECURRENT, flop_counter, flops_by_module
from freezekit.results.records import Flops, Parameters

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from freezekit.bench.workload import Session


def count_parameters(model: nn.Module) -> Parameters:
    """Count elements, tied parameters once; the digest is over the sorted trainable names.

    Example:
        >>> from torch import nn
        >>> model = nn.Linear(3, 4)
        >>> _ = model.weight.requires_grad_(False)
        >>> count_parameters(model)
        Parameters(total=16, trainable=4, trainable_digest='...')
    """
    trainable = {n: p.numel() for n, p in model.named_parameters() if p.requires_grad}
    names = "\n".join(sorted(trainable))
    return Parameters(
        total=sum(p.numel() for p in model.parameters()),
        trainable=sum(trainable.values()),
        trainable_digest=hashlib.sha256(names.encode()).hexdigest()[:12],
    )


def _convolution_backward(
    grad_shape: list[int],
    x_shape: list[int],
    weight_shape: list[int],
    _bias_shape: object,
    _stride: object,
    _padding: object,
    _dilation: object,
    transposed: bool,
    _output_padding: object,
    _groups: object,
    wanted: list[bool],
    **_: object,
) -> int:
    """Count the gradients of a convolution: those of input and weight cost as much as forward each.

    torch multiplies the count for the weight by `groups`: a depthwise convolution would cost as
    much as a dense one.
    """
    return sum(wanted[:2]) * conv_flop_count(x_shape, weight_shape, grad_shape, transposed)


def count_flops(session: Session) -> tuple[Flops, dict[str, int]]:
    """Count the floating-point operations of one step, forward (with the loss) and backward.

    Returns them, and those of the forward pass by module, with the modules inside it.

    Counted are matrix products, convolutions and attention, as torch's `FlopCounterMode` does,
    except for the gradients of grouped convolutions, and recurrent layers. A multiply-add is two.
    All that runs counts: in a lean step also what backward computes again.
    """
    found = count_step(session.model, session.loss)
    session.optimizer.zero_grad(set_to_none=True)
    return found


def count_step(model: nn.Module, loss_of: Callable[[], Tensor]) -> tuple[Flops, dict[str, int]]:
    """Count a forward and a backward, as `count_flops` does; gradients stay.

    Args:
        model: What runs.
        loss_of: Runs the forward.
    """
    with flop_counter(model) as forward:
        loss = loss_of()
    mapping = {**RECURRENT, torch.ops.aten.convolution_backward: _convolution_backward}
    with FlopCounterMode(display=False, custom_mapping=mapping) as backward:
        loss.backward()
    counted = Flops(forward.get_total_flops(), backward.get_total_flops())
    return counted, flops_by_module(forward, model)
