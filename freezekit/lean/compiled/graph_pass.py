"""The pass: the backward of a joint graph reads less, so that the partitioner saves less."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.fx import Node

from freezekit.lean.compiled.mask_operators import PACK, UNPACK, splits_of
from freezekit.lean.compiled.reading import backward_of, forward_of, read_whole
from freezekit.lean.compiled.recomputation import compute_again
from freezekit.lean.dense import is_dense
from freezekit.lean.mode import MIN_BYTES

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from torch.fx import Graph

aten: Any = torch.ops.aten

SHAPE_ONLY = {
    aten.max_pool2d_with_indices_backward.default: 1,
    aten.max_pool3d_with_indices_backward.default: 1,
    aten.avg_pool2d_backward.default: 1,
    aten.avg_pool3d_backward.default: 1,
    aten._adaptive_avg_pool2d_backward.default: 1,
    aten._adaptive_avg_pool3d_backward.default: 1,
}
"""Backward operators that need of one forward tensor the shape alone, and the argument of it."""

WEIGHT = 1
"""The place of the weight in the `output_mask` of a convolution's backward."""


def make_lean(graph: Graph) -> None:
    """Change a joint graph of forward and backward in place.

    A tensor of which the backward needs the shape becomes an empty tensor of that shape. Results of
    cheap functions are computed again from what is saved anyway. A mask becomes bits, where nothing
    else keeps what it is computed from.
    """
    backward = backward_of(graph)
    if not backward:
        return  # of inference
    for node in list(graph.nodes):
        place = _place_of_shape(node)
        if place is not None:
            _stand_in(graph, node, place, backward)
    graph.eliminate_dead_code()
    forward = forward_of(graph, backward)
    masks = {node for node in graph.nodes if node not in backward and _is_large_mask(node)}
    read = read_whole(backward, forward, masks)
    known = compute_again(graph, forward, read)
    for node in list(graph.nodes):
        if node in masks and not _follows_from(node, known, forward):
            _hold_as_bits(graph, node, backward, forward)
    graph.lint()


def _place_of_shape(node: Node) -> int | None:
    """Return which argument of a backward operator is a tensor of which it needs the shape."""
    if node.target is aten.convolution_backward.default:
        return None if node.args[-1][WEIGHT] else 1  # type: ignore[index]  # bools of the gradients
    return SHAPE_ONLY.get(node.target)


def _stand_in(graph: Graph, node: Node, place: int, backward: AbstractSet[Node]) -> None:
    given = node.args[place]
    if not isinstance(given, Node) or given in backward:
        return  # an input of the graph too: after a graph break, it is an activation
    value = given.meta["val"]
    with graph.inserting_before(node):
        size = [_number(graph, given, aten.sym_size.int, i) for i in range(value.ndim)]
        stride = [_number(graph, given, aten.sym_stride.int, i) for i in range(value.ndim)]
        options = {"dtype": value.dtype, "device": value.device}
        empty = graph.call_function(aten.empty_strided.default, (size, stride), options)
    empty.meta["val"] = value
    node.update_arg(place, empty)


def _number(graph: Graph, node: Node, function: Any, dim: int) -> Any:  # Any: torch's own kinds
    """Return a size or stride; of dynamic shapes a node, which is saved as a symbol."""
    value = node.meta["val"]
    number = (value.shape if function is aten.sym_size.int else value.stride())[dim]
    if isinstance(number, int):
        return number
    found = graph.call_function(function, (node, dim))
    found.meta["val"] = number
    return found


def _is_large_mask(node: Node) -> bool:
    value = node.meta.get("val")
    if node.op != "call_function" or not isinstance(value, Tensor) or value.dtype != torch.bool:
        return False
    if value.is_sparse or not is_dense(value) or "recompute" in node.meta:  # by checkpointing
        return False
    size = value.numel()
    return not isinstance(size, int) or size >= MIN_BYTES


def _follows_from(mask: Node, known: AbstractSet[Node], forward: AbstractSet[Node]) -> bool:
    """Tell whether a mask can be computed from what the backward has anyway."""
    left = list(mask.all_input_nodes)
    while left:
        node = left.pop()
        if node in known or node.op == "placeholder":
            continue
        if node in forward or not node.all_input_nodes:
            return False
        left.extend(node.all_input_nodes)  # computed for the backward alone
    return True


def _hold_as_bits(
    graph: Graph, mask: Node, backward: AbstractSet[Node], forward: AbstractSet[Node]
) -> None:
    users = [
        user
        for user in mask.users
        if user in backward or (user not in forward and not _is_bool(user))
    ]
    if not users:
        return
    value = mask.meta["val"]
    splits = splits_of(value.shape)
    if prod(splits) == 1:
        return  # of odd sizes alone
    with graph.inserting_before(mask.next):
        bits = graph.call_function(PACK, (mask, splits))
        whole = graph.call_function(UNPACK, (bits, splits))
    with value.fake_mode:
        bits.meta["val"] = PACK(value, splits)
    whole.meta["val"] = value
    for user in users:
        user.replace_input_with(mask, whole)


def _is_bool(node: Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.dtype == torch.bool
