"""Which torch function is run by which rule; one table."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._C import _nn

from freezekit.lean.rules import bits, shapes
from freezekit.lean.rules import recomputing as again

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit.lean.mode import Call, LeanMode

    Rule = Callable[[LeanMode, Call], Any]  # Any: what the function returns

_BY_RULE: tuple[tuple[Rule, tuple[Any, ...]], ...] = (  # Any: functions, builtin ones too
    (shapes.convolution, (torch.conv1d, torch.conv2d, torch.conv3d)),
    (
        shapes.transposed_convolution,
        (torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d),
    ),
    (shapes.batch_norm, (nn.functional.batch_norm,)),
    (shapes.shape_only, (torch.avg_pool1d, _nn.avg_pool2d, _nn.avg_pool3d)),
    (
        shapes.shape_only,
        (
            nn.functional.adaptive_avg_pool1d,
            nn.functional.adaptive_avg_pool2d,
            nn.functional.adaptive_avg_pool3d,
        ),
    ),
    (shapes.pad, (nn.functional.pad,)),
    (
        partial(shapes.max_pool, 1),
        (nn.functional.max_pool1d, nn.functional.max_pool1d_with_indices),
    ),
    (
        partial(shapes.max_pool, 2),
        (nn.functional.max_pool2d, nn.functional.max_pool2d_with_indices),
    ),
    (
        partial(shapes.max_pool, 3),
        (nn.functional.max_pool3d, nn.functional.max_pool3d_with_indices),
    ),
    (bits.relu, (nn.functional.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)),
    (bits.relu6, (nn.functional.relu6, _nn.relu6, _nn.relu6_)),
    (bits.hardtanh, (nn.functional.hardtanh, nn.functional.hardtanh_, _nn.hardtanh, _nn.hardtanh_)),
    (
        bits.leaky,
        (nn.functional.leaky_relu, nn.functional.leaky_relu_, _nn.leaky_relu, _nn.leaky_relu_),
    ),
    (bits.hardsigmoid, (nn.functional.hardsigmoid, _nn.hardsigmoid, _nn.hardsigmoid_)),
    (bits.dropout, (nn.functional.dropout,)),
    (partial(again.activation, nn.functional.silu), (nn.functional.silu, _nn.silu, _nn.silu_)),
    (
        partial(again.activation, nn.functional.hardswish),
        (nn.functional.hardswish, _nn.hardswish, _nn.hardswish_),
    ),
    (partial(again.activation, nn.functional.mish), (nn.functional.mish, _nn.mish, _nn.mish_)),
    (partial(again.activation, nn.functional.gelu), (nn.functional.gelu,)),
    (again.layer_norm, (nn.functional.layer_norm, torch.layer_norm)),
    (again.product, (torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__)),
    (again.rearranged, (torch.roll, Tensor.roll, Tensor.contiguous)),
    (again.rearranged, (torch.reshape, Tensor.reshape, torch.flatten, Tensor.flatten)),
)

RULES: dict[Any, Rule] = {function: rule for rule, functions in _BY_RULE for function in functions}
