"""Copies of a model that may be run without its owner noticing."""

from __future__ import annotations

import copy
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

if TYPE_CHECKING:
    from collections.abc import Iterator


def meta_copy(model: nn.Module) -> nn.Module:
    """Return a copy of the model whose tensors have shapes and no data, in eval mode.

    The copy runs no hook of the user's; those by which torch itself computes weights (weight norm,
    spectral norm, pruning) stay.

    Args:
        model: Any module; it is not touched.

    Example:
        >>> model = nn.Linear(4, 2)
        >>> meta_copy(model).weight.device, model.weight.device
        (device(type='meta'), device(type='cpu'))
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                data = torch.empty_like(parameter.detach(), device="meta")
                memo[id(parameter)] = nn.Parameter(data, requires_grad=parameter.requires_grad)
        held = [*module._buffers.values(), *vars(module).values()]
        for tensor in held:
            if isinstance(tensor, Tensor) and id(tensor) not in memo:
                memo[id(tensor)] = torch.empty_like(tensor.detach(), device="meta")
    memo |= _listed(model)
    return _quiet(copy.deepcopy(model, memo))


def _listed(model: nn.Module) -> dict[int, Tensor]:
    """Copy tensors in lists and dicts that modules keep, such as anchors.

    No `deepcopy` can when they are fake. Their values count; they stay where they are.
    """
    own = ("_parameters", "_buffers")  # the dicts of torch itself
    return {
        id(item): item.detach().clone()
        for module in model.modules()
        for name, value in vars(module).items()
        if isinstance(value, (list, tuple, dict)) and name not in own
        for item in (value.values() if isinstance(value, dict) else value)
        if isinstance(item, Tensor)
    }


def real_copy(model: nn.Module) -> nn.Module:
    """Return a copy of the model with its data, in eval mode and without the user's hooks.

    What is on `meta` has no data and becomes zeros on the CPU.

    Example:
        >>> real_copy(nn.Linear(2, 1, device="meta")).weight
        Parameter containing:
        tensor([[0., 0.]], requires_grad=True)
    """
    memo: dict[int, Any] = dict(_listed(model))
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_meta:
            zeros = torch.zeros_like(tensor.detach(), device="cpu")
            is_parameter = isinstance(tensor, nn.Parameter)
            memo[id(tensor)] = nn.Parameter(zeros, tensor.requires_grad) if is_parameter else zeros
    return _quiet(copy.deepcopy(model, memo))


def _quiet(model: nn.Module) -> nn.Module:
    for module in model.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            for key, hook in list(hooks.items()):
                if not type(hook).__module__.startswith("torch.nn.utils"):
                    del hooks[key]
        module._backward_hooks.clear()
        module._backward_pre_hooks.clear()
    return model.eval()


def on_device(example_input: Any, device: torch.device) -> Any:
    """Return the example input with its tensors copied to a device, zeros where it has no data."""

    def copied(tensor: Tensor) -> Tensor:
        empty = torch.zeros_like(tensor.detach(), device=device)
        return empty if tensor.is_meta else empty.copy_(tensor)

    return tree_map_only(Tensor, copied, example_input)


@contextmanager
def eagerly(model: nn.Module) -> Iterator[None]:
    """Run what torch.compile wrapped as it is: to compile it for one look takes long.

    Example:
        >>> with eagerly(nn.Linear(2, 2)):
        ...     pass
    """
    with ExitStack() as stack:
        if any(hasattr(m, "_orig_mod") or m._compiled_call_impl for m in model.modules()):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


@contextmanager
def caches_kept(model: nn.Module) -> Iterator[None]:
    """Put back what the classes of a model and their files keep in dicts, lists, sets and caches.

    What a forward over shapes leaves there would meet the next forward over numbers.

    Example:
        >>> class Counts(nn.Module):
        ...     seen = []
        >>> with caches_kept(Counts()):
        ...     Counts.seen.append(torch.empty(1, device="meta"))
        >>> Counts.seen
        []
    """
    classes = {cls for module in model.modules() for cls in type(module).__mro__}
    own = {cls for cls in classes if cls.__module__.partition(".")[0] not in ("torch", "builtins")}
    files = {cls.__module__ for cls in own} & sys.modules.keys()
    spaces = [*map(vars, own), *(vars(sys.modules[name]) for name in files)]
    values = [value for space in spaces for value in list(space.values())]
    held = [(value, copy.copy(value)) for value in values if type(value) in (dict, list, set)]
    cached = [v for v in values if hasattr(v, "cache_clear") and not v.cache_info().currsize]
    try:
        yield
    finally:
        for value, before in held:
            if len(value) != len(before):
                value.clear()
                value.extend(before) if isinstance(value, list) else value.update(before)
        for function in cached:
            function.cache_clear()
