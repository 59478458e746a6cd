"""Copies of a model that can run without any effect on the original."""

from __future__ import annotations

import copy
from collections import OrderedDict
from contextlib import ExitStack, contextmanager
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from freezekit.model.copied_functions import CopiedFunctions, global_values
from freezekit.model.copied_tensors import shapes_of, values_of
from freezekit.model.modes import in_mode
from freezekit.model.outside import has_hooks, shared_state
from freezekit.model.reach import own_function, reachable, refusal

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from freezekit.model.copied_tensors import Memo


def meta_copy(model: nn.Module) -> nn.Module:
    """Return a copy of the model in eval mode, whose tensors have shapes and no data.

    A weight that a module also keeps in a list, as `nn.LSTM` does, is one parameter in the copy
    too. Other tensors in lists, dicts and objects, such as anchors, are constants: they keep their
    values.

    The copy has the user's forward hooks, so that its outputs are those of the model. What hooks
    captured is copied with the model: the variables of closures, the arguments of partial
    functions, the objects of bound methods. What they find by global names is shared with the
    model, except for its own modules; run the copy within `caches_kept`, which restores it.

    Limits: hooks that cannot be copied are left out (`hooks_left_out`), and hooks of the backward
    pass. A function of a class is not copied: a forward that reaches the model by a variable of a
    function around its class, and not by `self`, runs the original. What a hook does outside of
    Python's objects, such as to print, it does for the copy too.

    Args:
        model: Any module; it is not changed.

    Example:
        >>> model = nn.Linear(4, 2)
        >>> meta_copy(model).weight.device, model.weight.device
        (device(type='meta'), device(type='cpu'))
    """
    return in_mode(_copied(model, shapes_of(model))[0], training=False)


def real_copy(model: nn.Module) -> nn.Module:
    """Return a copy of the model in eval mode, with its data, otherwise as `meta_copy` makes it.

    A tensor on "meta" has no data and becomes zeros on the CPU.

    Example:
        >>> real_copy(nn.Linear(2, 1, device="meta")).weight
        Parameter containing:
        tensor([[0., 0.]], requires_grad=True)
    """
    return in_mode(_copied(model, values_of(model))[0], training=False)


def deep_copies(model: nn.Module, *others: Any) -> tuple[Any, ...]:  # Any: optimizers and the like
    """Return copies of a model, with all its hooks and modes, and of what refers to its parameters.

    Hooks work on the copy, as those of `meta_copy` do. A variable of a closure that cannot be
    copied is shared. The last item is the memo, for more copies by `deepcopy`.

    Example:
        >>> model = nn.Linear(1, 1)
        >>> copied, kept, _ = deep_copies(model, [model.weight])
        >>> kept[0] is copied.weight
        True
    """
    memo = values_of(model, *others)
    memo |= {id(item): item for item in shared_state(model)}
    functions = CopiedFunctions(model, memo)
    functions.add(model, *others)
    copied: tuple[Any, ...] = copy.deepcopy((model, *others), memo)
    functions.fill(shared=True)
    for module, its_copy in zip(model.modules(), copied[0].modules(), strict=True):
        _give_methods(module, its_copy, functions)
        for kind in _HOOKS:
            hooks = getattr(its_copy, kind)
            for key, hook in getattr(module, kind).items():
                if isinstance(hook, MethodType):
                    hooks[key] = functions.copied(hook)
    return *copied, memo


def hooks_left_out(model: nn.Module) -> dict[str, str]:
    """Return why copies leave out forward hooks, by the names of the modules that have them.

    Example:
        >>> import threading
        >>> model, lock = nn.Sequential(nn.Linear(1, 1)), threading.Lock()
        >>> handle = model[0].register_forward_hook(lambda *_: lock.locked() and None)
        >>> hooks_left_out(model)
        {'0': "TypeError: cannot pickle '_thread.lock' object"}
    """
    return _copied(model, shapes_of(model))[1] if has_hooks(model) else {}


_HOOKS = "_forward_pre_hooks", "_forward_hooks"
_BACKWARD_HOOKS = "_backward_pre_hooks", "_backward_hooks"


def _copied(model: nn.Module, memo: Memo) -> tuple[nn.Module, dict[str, str]]:
    """Copy the model, then its forward hooks one by one; return what `hooks_left_out` does too."""
    memo |= {id(item): item for item in shared_state(model)}
    dicts = [getattr(m, kind) for m in model.modules() for kind in (*_HOOKS, *_BACKWARD_HOOKS)]
    memo |= {id(hooks): OrderedDict() for hooks in dicts}
    functions = CopiedFunctions(model, memo)
    functions.add(model, without={id(hooks) for hooks in dicts})
    copied = copy.deepcopy(model, memo)
    functions.fill(shared=True)
    left_out = {}
    own = {id(module) for module in model.modules()}  # these are copied already
    for (name, module), its_copy in zip(model.named_modules(), copied.modules(), strict=True):
        _give_methods(module, its_copy, functions)
        for kind in _HOOKS:
            hooks = getattr(its_copy, kind)
            hooks.clear()
            for key, hook in getattr(module, kind).items():
                before = dict(memo)
                try:
                    _check(hook, own)
                    functions.add(hook, without=own)
                    hooks[key] = functions.copied(hook)
                    functions.fill(shared=False)
                except Exception as error:  # noqa: BLE001  # what a hook captured may raise anything
                    functions.forget()
                    hooks.pop(key, None)
                    memo.clear()
                    memo.update(before)
                    left_out[name] = f"{type(error).__name__}: {error}"
    return copied, left_out


def _give_methods(module: nn.Module, its_copy: nn.Module, functions: CopiedFunctions) -> None:
    """Give a copy the methods that are attributes of the instance alone, such as a new forward."""
    for name, value in vars(module).items():
        if isinstance(value, MethodType) and own_function(value):
            vars(its_copy)[name] = functions.copied(value)


def _check(hook: object, own: Container[int]) -> None:
    """Raise for a hook that cannot be copied, or that would do harm on a copy.

    Hooks refer to files, locks and writers of logs by variables or by global names: a copy must not
    use them. A wrapper that is copied would call the other processes of a distributed run.
    """
    captured = list(reachable(hook, closed=Tensor, without=own))
    functions = [item for item in captured if isinstance(item, FunctionType)]
    named = [value for function in functions for _, value in global_values(function)]
    named = [value for value in named if not isinstance(value, (type, FunctionType))]
    closed = Tensor, nn.Module, FunctionType
    for item in (*captured, *reachable(*named, closed=closed)):
        if type(item).__module__.startswith(("torch.distributed.", "torch.nn.parallel.")):
            raise TypeError(f"it refers to a {type(item).__name__}")
        if (error := refusal(item)) is not None:
            raise error


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
