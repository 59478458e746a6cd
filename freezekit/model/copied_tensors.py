"""The tensors of a copy of a model, made before `deepcopy` meets the originals.

`deepcopy` takes what its memo holds. So tensors are copied here, wherever modules keep them:
registered, as plain attributes, or in lists, dicts and objects.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor

from freezekit.model.reach import reachable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Memo = dict[int, Any]  # Any: deepcopy's own record, of copies by the id of the original


def shapes_of(model: nn.Module) -> Memo:
    """Return copies on "meta" of all tensors except constants.

    Constants are tensors in containers and objects that need no gradient and share no memory with a
    weight, such as a list of anchors. Their values matter, so that they keep these.

    Example:
        >>> model = nn.Linear(2, 2, bias=False)
        >>> model.kept = [model.weight, torch.ones(1)]
        >>> copied = shapes_of(model)
        >>> [copied[id(tensor)].device.type for tensor in model.kept]
        ['meta', 'cpu']
    """

    def shape(tensor: Tensor, _: Memo) -> Tensor:
        return _as(tensor, torch.empty_like(tensor.detach(), device="meta"))

    direct = {id(value) for module in model.modules() for value in vars(module).values()}

    def shape_or_constant(tensor: Tensor, memo: Memo) -> Tensor:
        if id(tensor) in direct or tensor.requires_grad:
            return shape(tensor, memo)
        return tensor.detach().clone()

    return _copies(model, (), shape, shape_or_constant)


def values_of(model: nn.Module, *others: Any) -> Memo:  # Any: whatever is copied with the model
    """Return copies of all tensors with their values; of those on "meta", zeros on the CPU.

    `deepcopy` alone refuses tensors that have a graph, such as the outputs that a hook keeps, and
    it parts a view from its weight.

    Example:
        >>> model = nn.Linear(2, 2, bias=False)
        >>> model.kept = [model.weight * 2, model.weight[0]]
        >>> copied = values_of(model)
        >>> copied[id(model.kept[0])].requires_grad
        False
        >>> copied[id(model.kept[1])].data_ptr() == copied[id(model.weight)].data_ptr()
        True
    """

    def value(tensor: Tensor, memo: Memo) -> Tensor:
        if tensor.is_meta:
            return _as(tensor, torch.zeros_like(tensor.detach(), device="cpu"))
        if isinstance(tensor, FakeTensor) or not tensor.is_leaf:  # deepcopy refuses both
            return _as(tensor, tensor.detach().clone())
        return copy.deepcopy(tensor, memo)

    return _copies(model, others, value, value)


def _copies(
    model: nn.Module,
    others: Sequence[Any],
    copied_weight: Callable[[Tensor, Memo], Tensor],
    copied: Callable[[Tensor, Memo], Tensor],
) -> Memo:
    """Copy registered weights, then what else is reached. A view of a weight stays its view."""
    memo: Memo = {}
    weights: dict[int, list[Tensor]] = {}
    for weight in (*model.parameters(), *model.buffers()):
        memo[id(weight)] = copied_weight(weight, memo)
        if (storage := _storage(weight)) is not None:
            weights.setdefault(storage, []).append(weight)
    for tensor in reachable(model, *others):
        if not isinstance(tensor, Tensor) or id(tensor) in memo:
            continue
        views = (
            _same_view(tensor, weight, memo[id(weight)])
            for weight in weights.get(_storage(tensor) or 0, ())
        )
        view = next((view for view in views if view is not None), None)
        memo[id(tensor)] = copied(tensor, memo) if view is None else view
    return memo


def _as(tensor: Tensor, data: Tensor) -> Tensor:
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(data, tensor.requires_grad)
    return data.requires_grad_(tensor.requires_grad and tensor.is_leaf)


def _storage(tensor: Tensor) -> int | None:
    """Return what is equal for all tensors that share memory; None where that cannot be asked."""
    if tensor.layout != torch.strided or not torch._C._has_storage(tensor):
        return None
    address: int = tensor.untyped_storage()._cdata
    return address


def _same_view(tensor: Tensor, weight: Tensor, copied: Tensor) -> Tensor | None:
    """Return the view of a copied weight that a tensor is of the weight, None where it is none."""
    start = tensor.storage_offset() - weight.storage_offset()
    if tensor.dtype != weight.dtype or weight.stride() != copied.stride() or start < 0:
        return None
    size, stride = tensor.size(), tensor.stride()
    reach = sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if start + reach >= weight.numel():
        return None
    return copied.detach().as_strided(size, stride, copied.storage_offset() + start)
