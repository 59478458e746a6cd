"""Which nodes of a joint graph are forward or backward, and what the backward reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

    from torch.fx import Graph, Node


def backward_of(graph: Graph) -> set[Node]:
    """Return the nodes that depend on a gradient of the output."""
    found: set[Node] = set()
    for node in graph.nodes:
        is_tangent = node.op == "placeholder" and "tangents" in str(node.target)
        if is_tangent or (node.op != "output" and not found.isdisjoint(node.all_input_nodes)):
            found.add(node)
    return found


def forward_of(graph: Graph, backward: AbstractSet[Node]) -> set[Node]:
    """Return the nodes that the results of the forward depend on."""
    return _ancestors(node for node in graph.output_node().all_input_nodes if node not in backward)


def read_whole(
    backward: AbstractSet[Node], forward: AbstractSet[Node], masks: AbstractSet[Node]
) -> set[Node]:
    """Return the nodes of the forward whose elements the backward reads.

    A node that neither the forward's results nor a gradient depend on is computed for the backward
    alone: what it reads counts.

    Args:
        backward: The nodes of the backward.
        forward: The nodes that the results of the forward depend on.
        masks: What the backward may have as bits: what only they read does not count.
    """
    found: set[Node] = set()
    left = [*backward]
    while left:
        for node in left.pop().all_input_nodes:
            if node in backward or node in masks or node in found:
                continue
            found.add(node)
            if node not in forward and node.op != "placeholder":
                left.append(node)
    return {node for node in found if node in forward or node.op == "placeholder"}


def _ancestors(nodes: Iterable[Node]) -> set[Node]:
    found: set[Node] = set()
    left = list(nodes)
    while left:
        node = left.pop()
        if node not in found:
            found.add(node)
            left.extend(node.all_input_nodes)
    return found
