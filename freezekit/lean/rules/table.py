"""The table of rules: each rule with all functions that it runs, under every name of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own convention
from torch import Tensor

from freezekit.lean.rules import one_bit, recomputing, shapes

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit.lean.mode import Call, LeanMode

    Rule = Callable[[LeanMode, Call], Any]  # Any: what the function returns

_nn: Any = torch._C._nn  # Any: its stubs lack some functions

_BY_RULE: tuple[tuple[Rule, tuple[Any, ...]], ...] = (  # Any: functions, builtin ones too
    # The gradient needs the input's shape.
    (shapes.convolution, (torch.conv1d, torch.conv2d, torch.conv3d)),
    (
        shapes.transposed_convolution,
        (torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d),
    ),
    (shapes.batch_norm, (F.batch_norm,)),
    (shapes.shape_only, (torch.avg_pool1d, _nn.avg_pool2d, _nn.avg_pool3d)),
    (
        shapes.shape_only,
        (
            *(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d),
            *(_nn.adaptive_avg_pool2d, _nn.adaptive_avg_pool3d),
        ),
    ),
    (shapes.shape_only, (_nn.reflection_pad1d, _nn.reflection_pad2d, _nn.reflection_pad3d)),
    (shapes.shape_only, (_nn.replication_pad1d, _nn.replication_pad2d, _nn.replication_pad3d)),
    (shapes.pad, (F.pad, _nn.pad)),
    (
        partial(shapes.max_pool, 1),
        (
            *(F.max_pool1d, torch.max_pool1d),
            *(F.max_pool1d_with_indices, torch.max_pool1d_with_indices),
        ),
    ),
    (
        partial(shapes.max_pool, 2),
        (
            *(F.max_pool2d, torch.max_pool2d),
            *(F.max_pool2d_with_indices, _nn.max_pool2d_with_indices),
        ),
    ),
    (
        partial(shapes.max_pool, 3),
        (
            *(F.max_pool3d, torch.max_pool3d),
            *(F.max_pool3d_with_indices, _nn.max_pool3d_with_indices),
        ),
    ),
    # The gradient needs one bit of each element.
    (one_bit.relu, (F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)),
    (one_bit.relu6, (F.relu6, _nn.relu6, _nn.relu6_)),
    (one_bit.hardtanh, (F.hardtanh, F.hardtanh_, _nn.hardtanh, _nn.hardtanh_)),
    (one_bit.leaky_relu, (F.leaky_relu, F.leaky_relu_, _nn.leaky_relu, _nn.leaky_relu_)),
    (one_bit.hardsigmoid, (F.hardsigmoid, _nn.hardsigmoid, _nn.hardsigmoid_)),
    (one_bit.dropout, (F.dropout, torch.dropout, torch.dropout_)),
    # The result can be computed again.
    (partial(recomputing.activation, F.silu), (F.silu, _nn.silu, _nn.silu_)),
    (partial(recomputing.activation, F.hardswish), (F.hardswish, _nn.hardswish, _nn.hardswish_)),
    (partial(recomputing.activation, F.mish), (F.mish, _nn.mish, _nn.mish_)),
    (partial(recomputing.activation, F.gelu), (F.gelu,)),
    (recomputing.layer_norm, (F.layer_norm, torch.layer_norm)),
    (
        recomputing.product,
        (
            *(torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__),
            *(torch.multiply, Tensor.multiply),
        ),
    ),
    (recomputing.rearranged, (torch.roll, Tensor.roll, Tensor.contiguous)),
    (recomputing.rearranged, (torch.reshape, Tensor.reshape, torch.flatten, Tensor.flatten)),
)

RULES: dict[Any, Rule] = {function: rule for rule, functions in _BY_RULE for function in functions}
