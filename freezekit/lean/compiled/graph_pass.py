"""The pass: the backward of a joint graph reads less, so that the partitioner saves less."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.fx import Node

from freezekit.lean.compiled.mask_operators import PACK, UNPACK
from freezekit.lean.dense import is_dense
from freezekit.lean.mode import MIN_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable
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

    A tensor of which the backward needs the shape becomes an empty tensor of that shape. A mask
    becomes bits, where nothing else keeps what it is computed from.
    """
    backward = _backward(graph)
    if not backward:
        return  # of inference
    for node in list(graph.nodes):
        place = _place_of_shape(node)
        if place is not None:
            _stand_in(graph, node, place, backward)
    graph.eliminate_dead_code()
    needed = _ancestors(
        node for node in graph.output_node().all_input_nodes if node not in backward
    )
    for node in list(graph.nodes):
        if node not in backward and _is_worth_bits(node, backward):
            _hold_as_bits(graph, node, backward, needed)
    graph.lint()


def _backward(graph: Graph) -> set[Node]:
    """Return the nodes that depend on a gradient of the output."""
    found: set[Node] = set()
    for node in graph.nodes:
        is_tangent = node.op == "placeholder" and "tangents" in str(node.target)
        if is_tangent or (node.op != "output" and not found.isdisjoint(node.all_input_nodes)):
            found.add(node)
    return found


def _ancestors(nodes: Iterable[Node]) -> set[Node]:
    found: set[Node] = set()
    left = list(nodes)
    while left:
        node = left.pop()
        if node not in found:
            found.add(node)
            left.extend(node.all_input_nodes)
    return found


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


def _is_worth_bits(node: Node, backward: AbstractSet[Node]) -> bool:
    """Tell whether a node is a large mask for the backward, of what the backward does not have."""
    value = node.meta.get("val")
    if node.op != "call_function" or not isinstance(value, Tensor) or value.dtype != torch.bool:
        return False
    if value.is_sparse or not is_dense(value) or "recompute" in node.meta:  # by checkpointing
        return False
    size = value.numel()
    if isinstance(size, int) and size < MIN_BYTES:
        return False
    return not any(user in backward for each in node.all_input_nodes for user in each.users)


def _hold_as_bits(
    graph: Graph, mask: Node, backward: AbstractSet[Node], needed: AbstractSet[Node]
) -> None:
    users = [
        user
        for user in mask.users
        if user in backward or (user not in needed and not _is_bool(user))
    ]
    if not users:
        return
    value = mask.meta["val"]
    with graph.inserting_before(mask.next):
        sizes = [_number(graph, mask, aten.sym_size.int, i) for i in range(value.ndim)]
        strides = [_number(graph, mask, aten.sym_stride.int, i) for i in range(value.ndim)]
        bits = graph.call_function(PACK, (mask, strides))
        whole = graph.call_function(UNPACK, (bits, sizes, strides))
    with value.fake_mode:
        bits.meta["val"] = PACK(value, value.stride())
    whole.meta["val"] = value
    for user in users:
        user.replace_input_with(mask, whole)


def _is_bool(node: Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.dtype == torch.bool
