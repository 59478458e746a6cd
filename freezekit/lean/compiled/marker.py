"""The marker: a graph that is compiled of a lean model says so.

`torch.compile` shows its passes a graph, and not the model. So the forward of a lean model calls an
operator on its first tensor when it is traced. Where Inductor compiles the graph, `installation`
removes the operator. Where it runs, the graph was compiled by something else.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from freezekit.errors import FreezekitWarning

if TYPE_CHECKING:
    from torch.fx import Graph

_library = torch.library.Library("freezekit", "FRAGMENT")
_library.define("lean_graph(Tensor image) -> Tensor")
_MARKER: Any = torch.ops.freezekit.lean_graph.default  # Any: torch's operators


def mark(
    args: tuple[Any, ...],  # Any: whatever a model takes, here and below
    kwargs: dict[str, Any],
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a forward that is traced, the first tensor through the marker.

    Without gradients nothing is saved, and forward-mode differentiation and exported programs need
    the model as it is.
    """
    if (
        not torch.is_grad_enabled()
        or torch.compiler._is_exporting_flag  # before 2.14, is_exporting() is true in any trace
        or torch.autograd.forward_ad._current_level >= 0
    ):
        return args, kwargs
    for i, each in enumerate(args):
        if isinstance(each, Tensor):
            return (*args[:i], _MARKER(each), *args[i + 1 :]), kwargs
    for name, each in kwargs.items():
        if isinstance(each, Tensor):
            return args, {**kwargs, name: _MARKER(each)}
    return args, kwargs


def remove_markers(graph: Graph) -> bool:
    """Remove the markers from a graph; tell whether there were some."""
    found = [node for node in graph.nodes if node.target is _MARKER]
    for node in found:
        node.replace_all_uses_with(node.args[0])
        graph.erase_node(node)
    return bool(found)


def _run(image: Tensor) -> Tensor:
    warnings.warn(
        "lean has no effect in this compiled model: another backend than Inductor compiled it, or "
        f"this version of PyTorch, {torch.__version__}, is none that lean was tested with. Its "
        "numbers are right, and it saves what a stock model saves",
        FreezekitWarning,
        stacklevel=2,
    )
    return image.clone()


def _trace(image: Tensor) -> Tensor:
    from freezekit.lean.compiled.installation import install  # which imports this module

    install()
    return torch.empty_like(image)


_library.impl("lean_graph", _run, "CompositeExplicitAutograd")
_library.impl("lean_graph", _trace, "Meta")
torch.library.register_vmap(
    "freezekit::lean_graph",
    lambda _info, in_dims, image: (_MARKER(image), in_dims[0]),
    lib=_library,
)
torch.library.register_autograd(
    "freezekit::lean_graph", lambda _context, gradient: gradient, lib=_library
)
