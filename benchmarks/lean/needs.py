"""The least that each backward formula needs of what autograd saved for it, as one table.

Written from the formulas, without looking at `freezekit.lean`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2, prod
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch.autograd.graph import Node

SAVED = "_saved_"


@dataclass(frozen=True)
class Need:
    """A saved tensor that a formula needs, whole or in part.

    Attributes:
        tensor: As autograd saved it.
        bits: Bits that it needs of each element; None for the whole tensor.
        in_result: The bits follow from the result of the operation too.
    """

    tensor: Tensor
    bits: int | None = None
    in_result: bool = False


class MaskStorages(TorchDispatchMode):
    """Notes the storages of random masks, which dropout draws where it is not one operator."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # untyped in torch
        self.storages: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if "bernoulli" in func.name():
            self.storages.update(storage_key(leaf) for leaf in tree_leaves(out))
        return out


def storage_key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def base_name(node: Node) -> str:
    """Return "Mul" for MulBackward0."""
    return node.name().rpartition("::")[2].partition("Backward")[0]


def saved(node: Node, name: str) -> Any:
    """Return what a node saved under a name, None where it did not."""
    return getattr(node, SAVED + name, None)


def all_saved(node: Node) -> list[Tensor]:
    """Return all tensors that a node saved, also where it is an autograd function in Python."""
    found = [getattr(node, name) for name in dir(node) if name.startswith(SAVED)]
    found += getattr(node, "saved_tensors", ())
    return [leaf for leaf in tree_leaves(found) if isinstance(leaf, Tensor)]


def wants(node: Node, position: int) -> bool:
    """Tell whether the gradient of an input, given by its position, is wanted."""
    edges = node.next_functions
    return position < len(edges) and edges[position][0] is not None


def needs(node: Node, masks: set[int]) -> list[Need]:
    """Return what a node's formula needs, given the storages of random masks."""
    rule = _RULES.get(base_name(node))
    if rule is None:
        return [Need(tensor) for tensor in all_saved(node)]
    return [
        Need(need.tensor, 1) if storage_key(need.tensor) in masks else need for need in rule(node)
    ]


def _whole(node: Node, *names: str) -> Iterator[Need]:
    found = (saved(node, name) for name in names)
    return (Need(tensor) for tensor in found if isinstance(tensor, Tensor))


def _nothing(_: Node) -> Iterator[Need]:
    yield from ()


def _convolution(node: Node) -> Iterator[Need]:
    if wants(node, 0):
        yield from _whole(node, "weight")
    if wants(node, 1):
        yield from _whole(node, "input")


def _batch_norm(node: Node) -> Iterator[Need]:
    if wants(node, 0):
        yield from _whole(node, "weight")
    live = saved(node, "training") and wants(node, 0)
    if live or wants(node, 1):
        yield from _whole(node, "input", "result1", "result2")


def _norm_of_sample(node: Node) -> Iterator[Need]:
    if wants(node, 0):
        yield from _whole(node, "weight")
    if wants(node, 0) or wants(node, 1):
        yield from _whole(node, "input", "result1", "result2")


def _bit_of(name: str) -> Callable[[Node], Iterator[Need]]:
    def rule(node: Node) -> Iterator[Need]:
        for tensor in (saved(node, name), saved(node, "result")):
            if isinstance(tensor, Tensor):
                yield Need(tensor, 1, in_result=True)
                return

    return rule


def _dropout(node: Node) -> Iterator[Need]:
    yield Need(saved(node, "result1"), 1)


def _max_pool(node: Node) -> Iterator[Need]:
    kernel = tuple(saved(node, "kernel_size"))
    dimensions = int(base_name(node).removeprefix("MaxPool")[0])
    places = prod(kernel if len(kernel) > 1 else kernel * dimensions)
    yield Need(saved(node, "result1"), ceil(log2(places)))


def _factors(left: str, right: str, first: int) -> Callable[[Node], Iterator[Need]]:
    """Need each factor where the gradient of the other is wanted; the left one is input `first`.

    A number costs nothing, even where torch makes a tensor of it.
    """

    def rule(node: Node) -> Iterator[Need]:
        names = [name for place, name in ((1, left), (0, right)) if wants(node, first + place)]
        return (need for need in _whole(node, *names) if need.tensor.ndim)

    return rule


def _input(node: Node) -> Iterator[Need]:
    return _whole(node, "self")


def _result(node: Node) -> Iterator[Need]:
    return _whole(node, "result")


def _loss(node: Node) -> Iterator[Need]:
    return _whole(node, "target", "weight", "total_weight")


_SPATIAL = ("1D", "2D", "3D")
VIEWS = (
    *("View", "UnsafeView", "Permute", "Transpose", "T", "Expand", "Select", "Slice"),
    *("Squeeze", "Unsqueeze", "AsStrided", "Alias", "Unbind", "Split", "SplitWithSizes"),
)
_NOTHING = (
    *(f"{kind}Pool{d}" for kind in ("Avg", "AdaptiveAvg") for d in _SPATIAL),
    *(f"{kind}Pad{d}" for kind in ("Reflection", "Replication") for d in _SPATIAL),
    *("ConstantPadNd", "Add", "Sub", "Mean", "Sum", "Cat", "Stack", "Roll", "Clone", "Repeat"),
    *VIEWS,
)
_RULES: dict[str, Callable[[Node], Iterator[Need]]] = {
    **dict.fromkeys(_NOTHING, _nothing),
    "Convolution": _convolution,
    "NativeBatchNorm": _batch_norm,
    **dict.fromkeys(("NativeLayerNorm", "NativeGroupNorm"), _norm_of_sample),
    "Relu": _bit_of("result"),
    **dict.fromkeys(("Hardtanh", "LeakyRelu", "Hardsigmoid"), _bit_of("self")),
    "NativeDropout": _dropout,
    **{f"MaxPool{d}WithIndices": _max_pool for d in ("2D", "3D")},
    "Mul": _factors("self", "other", 0),
    **dict.fromkeys(("Mm", "Bmm"), _factors("self", "mat2", 0)),
    "Addmm": _factors("mat1", "mat2", 1),
    "Baddbmm": _factors("batch1", "batch2", 1),
    **dict.fromkeys(("Silu", "Gelu", "Hardswish", "Mish"), _input),
    **dict.fromkeys(("Softmax", "LogSoftmax"), _result),
    "NllLoss": _loss,
}
