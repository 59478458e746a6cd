"""The tensors of a copy of a model, made before `deepcopy` meets the originals.

`deepcopy` takes what its memo holds. So tensors are copied here, wherever modules keep them:
registered, as plain attributes, in lists, dicts and objects, or in what their hooks captured.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor

from freezekit.model.reach import reachable

if TYPE_CHECKING:
    from collections.abc import Callable

Memo = dict[int, Any]  # Any: deepcopy's own record, of copies by the id of the original


def shapes_of(model: nn.Module) -> Memo:
    """Return copies on "meta" of all tensors except constants, which `deepcopy` copies.

    Constants are tensors in containers and objects that need no gradient and share no memory with a
    weight, such as a list of anchors. Their values matter, so that they keep these.

    Example:
        >>> model = nn.Linear(2, 2, bias=False)
        >>> model.kept = [model.weight, torch.ones(1), model.weight[0]]
        >>> copied = shapes_of(model)
        >>> [copied.get(id(tensor)) is None for tensor in model.kept]
        [False, True, False]
        >>> {copied[id(tensor)].device.type for tensor in model.kept[::2]}
        {'meta'}
    """

    def shape(tensor: Tensor, direct: bool) -> Tensor | None:
        if direct or tensor.requires_grad:
            return _as(tensor, torch.empty_like(tensor.detach(), device="meta"))
        return tensor.detach().clone() if isinstance(tensor, FakeTensor) else None

    return _copies(model, (), shape)


def values_of(model: nn.Module, *others: Any) -> Memo:  # Any: whatever is copied with the model
    """Return copies of weights, and of the tensors that `deepcopy` copies wrongly or not at all.

    It refuses tensors that have a graph, such as the outputs that a hook keeps, and it parts a view
    from its weight. Tensors on "meta" have no data and become zeros on the CPU.

    Example:
        >>> model = nn.Linear(2, 2, bias=False)
        >>> model.kept = [model.weight * 2, model.weight.detach()[0]]
        >>> copied = values_of(model)
        >>> copied[id(model.kept[0])].requires_grad
        False
        >>> copied[id(model.kept[1])].data_ptr() == copied[id(model.weight)].data_ptr()
        True
    """

    def value(tensor: Tensor, direct: bool) -> Tensor | None:
        if tensor.is_meta:
            return _as(tensor, torch.zeros_like(tensor.detach(), device="cpu"))
        if (isinstance(tensor, FakeTensor) and not direct) or not tensor.is_leaf:
            return _as(tensor, tensor.detach().clone())
        return copy.deepcopy(tensor) if isinstance(tensor, nn.Parameter) else None

    return _copies(model, others, value)


def _copies(
    model: nn.Module, others: tuple[Any, ...], copied: Callable[[Tensor, bool], Tensor | None]
) -> Memo:
    """Copy registered weights, then what else is reached. A view of a weight stays its view.

    Args:
        model: The model.
        others: What is copied with it.
        copied: Returns the copy of a tensor, or None where `deepcopy` shall make it. It is told
            whether the tensor is an attribute of a module itself.
    """
    memo: Memo = {}
    found = list(reachable(model, *others))
    around = [item for item in found if isinstance(item, nn.Module)]  # hooks may refer to others
    modules = dict.fromkeys([*model.modules(), *around])
    weights: dict[int, list[Tensor]] = {}
    for module in modules:
        for weight in (*module._parameters.values(), *module._buffers.values()):
            if weight is None or id(weight) in memo:
                continue
            if (made := copied(weight, True)) is not None:
                memo[id(weight)] = made
                if (storage := _storage(weight)) is not None:
                    weights.setdefault(storage, []).append(weight)
    direct = {id(value) for module in modules for value in vars(module).values()}
    for tensor in found:
        if not isinstance(tensor, Tensor) or id(tensor) in memo:
            continue
        views = (
            _same_view(tensor, weight, memo[id(weight)])
            for weight in weights.get(_storage(tensor) or 0, ())
        )
        made = next((view for view in views if view is not None), None)
        made = copied(tensor, id(tensor) in direct) if made is None else made
        if made is not None:
            memo[id(tensor)] = made
    memo[id(memo)] = [item for item in found if isinstance(item, Tensor)]  # as deepcopy: kept alive
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
