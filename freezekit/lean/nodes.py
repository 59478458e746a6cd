"""The autograd nodes of one function call: which they are, and how to run them by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from freezekit.lean.mode import needs_grad

if TYPE_CHECKING:
    from collections.abc import Sequence

_Edge = tuple[Any, int]  # Any: a node, which torch does not type fully


_FORMULAS = frozenset(
    {
        "ConvolutionBackward0",
        *(f"{kind}{n}DBackward0" for kind in ("AvgPool", "AdaptiveAvgPool") for n in (2, 3)),
        *(f"MaxPool{n}DWithIndicesBackward0" for n in (2, 3)),
        *(f"{kind}Pad{n}DBackward0" for kind in ("Reflection", "Replication") for n in (1, 2, 3)),
    }
)
"""Nodes of autograd whose formula needs of the first tensor that they save only the shape."""

_SAVE_NOTHING = frozenset(
    {
        *("ToCopyBackward0", "ConstantPadNdBackward0", "ViewBackward0", "UnsqueezeBackward0"),
        *("SqueezeBackward0", "SqueezeBackward1", "SqueezeBackward2"),
    }
)
"""Nodes that may stand around such a node: autocast, padding, a batch of one. They save nothing."""


class Nodes(NamedTuple):
    """The nodes of one function call, to be run by hand.

    Attributes:
        last: The node of the function's result. Any: torch does not type how it is called.
        edges: Of each input; None where it needs no gradient.
        places: Of each input among what the last node returns. None where there are more nodes.
    """

    last: Any
    edges: list[_Edge | None]
    places: list[int | None] | None

    def run(self, grad: Tensor) -> list[Tensor | None]:
        """Return the gradient of each input."""
        if self.places is None:
            return self._run_in_engine(grad)
        returned = self.last(grad)
        grads = returned if isinstance(returned, tuple) else (returned,)
        return [None if place is None else grads[place] for place in self.places]

    def _run_in_engine(self, grad: Tensor) -> list[Tensor | None]:
        """Run several nodes. By hand, each would skip what the engine did not ask it for."""
        wanted = [GradientEdge(*edge, None) for edge in self.edges if edge]
        found = iter(
            torch.autograd.grad(
                [GradientEdge(self.last, 0, None)],
                wanted,
                [grad],
                retain_graph=True,
                create_graph=torch.is_grad_enabled(),
                allow_unused=True,
            )
        )
        return [next(found) if edge else None for edge in self.edges]


def nodes_between(out: Tensor, inputs: Sequence[Any]) -> Nodes | None:
    """Return the nodes of a function; None where it is not known what their formulas need.

    They must be a tree of one node of `_FORMULAS` and others that save nothing.
    """
    last: Any = out.grad_fn
    if last is None:
        return None
    edges = [_edge(i) if needs_grad(i) else None for i in inputs]
    following = last.next_functions
    places = [None if e is None else following.index(e) if e in following else -1 for e in edges]
    count = sum(e is not None for e in edges)
    if -1 not in places and count == sum(node is not None for node, _ in following):
        return Nodes(last, edges, places) if last.name() in _FORMULAS else None
    return Nodes(last, edges, None) if _is_known_tree(last, edges, count) else None


def _is_known_tree(last: Any, edges: list[_Edge | None], count: int) -> bool:
    pending: list[Any] = [last]
    reached: list[_Edge] = []
    formulas = 0
    while pending:
        node = pending.pop()
        name = node.name()
        if name in _FORMULAS:
            formulas += 1
        elif name not in _SAVE_NOTHING:
            return False
        for edge in node.next_functions:
            if edge in edges:
                reached.append(edge)
            elif edge[0] is not None:
                pending.append(edge[0])
    return formulas == 1 and len(reached) == len(set(reached)) == count


def _edge(tensor: Tensor) -> _Edge:
    if tensor.grad_fn is not None:
        return tensor.grad_fn, tensor.output_nr
    edge = get_gradient_edge(tensor)
    return edge.node, edge.output_nr
