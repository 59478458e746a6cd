"""Copies of a model that can run without any effect on the original."""

from __future__ import annotations

import copy
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from freezekit.model.copied_tensors import shapes_of, values_of

if TYPE_CHECKING:
    from collections.abc import Iterator


def meta_copy(model: nn.Module) -> nn.Module:
    """Return a copy of the model in eval mode, whose tensors have shapes and no data.

    A weight that a module also keeps in a list, as `nn.LSTM` does, is one parameter in the copy
    too. Other tensors in lists, dicts and objects, such as anchors, are constants: they keep their
    values.

    The copy has none of the user's hooks. Hooks by which torch itself computes weights (weight
    norm, spectral norm, pruning) stay.

    Args:
        model: Any module; it is not changed.

    Example:
        >>> model = nn.Linear(4, 2)
        >>> meta_copy(model).weight.device, model.weight.device
        (device(type='meta'), device(type='cpu'))
    """
    return _without_user_hooks(copy.deepcopy(model, shapes_of(model)))


def real_copy(model: nn.Module) -> nn.Module:
    """Return a copy of the model in eval mode, with its data and without the user's hooks.

    A tensor on "meta" has no data and becomes zeros on the CPU.

    Example:
        >>> real_copy(nn.Linear(2, 1, device="meta")).weight
        Parameter containing:
        tensor([[0., 0.]], requires_grad=True)
    """
    return _without_user_hooks(copy.deepcopy(model, values_of(model)))


def _without_user_hooks(model: nn.Module) -> nn.Module:
    for module in model.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            for key, hook in list(hooks.items()):
                if not type(hook).__module__.startswith("torch.nn.utils"):
                    del hooks[key]
        module._backward_hooks.clear()
        module._backward_pre_hooks.clear()
    return model.eval()


def on_device(example_input: Any, device: torch.device) -> Any:
    """Return the example input with its tensors on a device; one without data becomes zeros."""

    def copied(tensor: Tensor) -> Tensor:
        empty = torch.zeros_like(tensor.detach(), device=device)
        return empty if tensor.is_meta else empty.copy_(tensor)

    return tree_map_only(Tensor, copied, example_input)


@contextmanager
def eagerly(model: nn.Module) -> Iterator[None]:
    """Run parts that `torch.compile` wrapped without compiling, which would take long for one run.

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
    """Restore dicts, lists, sets and function caches of a model's classes and of their files.

    A forward on tensors without data may leave such tensors there, where the next forward on real
    data would find them.

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
