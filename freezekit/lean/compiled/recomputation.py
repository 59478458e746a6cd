"""Which results the backward computes again: those of cheap functions of what is saved anyway.

They are the functions that a lean model computes again when it is not compiled
(`freezekit.lean.rules.recomputing`). By itself, Inductor's partitioner saves a result that is used
far from where it is computed, even if the inputs are saved too. A mark on its node changes that.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils.checkpoint import CheckpointPolicy

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from torch.fx import Graph, Node

aten: Any = torch.ops.aten

CHEAP = {
    *(aten.silu, aten.silu_, aten.hardswish, aten.hardswish_, aten.mish, aten.mish_, aten.gelu),
    *(aten.native_layer_norm, aten.mul, aten._to_copy),
    *(aten.roll, aten.constant_pad_nd, aten.clone, aten._unsafe_view),
}
"""Functions of the traced program that may run again, whatever they were decomposed into."""

REDUCTIONS = {aten.var_mean}
"""Parts of these functions that read many elements for one: their results are saved."""


def compute_again(
    graph: Graph, forward: AbstractSet[Node], read: AbstractSet[Node]
) -> AbstractSet[Node]:
    """Mark the nodes that the backward shall compute again; return what it has then.

    Args:
        graph: The joint graph; its nodes are marked in place.
        forward: The nodes that the results of the forward depend on.
        read: The nodes of the forward whose elements the backward reads.
    """
    possible: set[Node] = set()
    constant: set[Node] = set()  # such as the indices by which elements are moved
    for node in graph.nodes:
        if node in forward and _is_cheap(node):
            inputs = node.all_input_nodes
            if constant.issuperset(inputs):
                constant.add(node)
                continue
            has_all = all(
                each in read or each in possible or each in constant or _is_given(each)
                for each in inputs
            )
            if has_all and not all(map(_is_given, inputs)):
                possible.add(node)
    again: set[Node] = set()
    left = [node for node in read if node in possible]
    while left:
        node = left.pop()
        if node in again:
            continue
        again.add(node)
        left.extend(each for each in node.all_input_nodes if each in possible)
        if "recompute" not in node.meta and isinstance(node.meta.get("val"), Tensor):
            node.meta["recompute"] = CheckpointPolicy.PREFER_RECOMPUTE
    return read | again


def _is_given(node: Node) -> bool:
    return node.op in ("placeholder", "get_attr")


def _is_cheap(node: Node) -> bool:
    if node.target is operator.getitem:  # a part of a split
        parent = node.args[0]
        return _is_cheap(parent)  # type: ignore[arg-type]  # what has parts is a node
    if node.op != "call_function" or not isinstance(node.target, OpOverload):
        return False
    if node.target.overloadpacket in REDUCTIONS:
        return False
    origin = node.meta.get("original_aten")
    return node.target.is_view or getattr(origin, "overloadpacket", None) in CHEAP
