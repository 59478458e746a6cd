"""Functions of a model that act on its copy: hooks, and methods that were replaced."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from types import CellType, FunctionType, MethodType
from typing import Any

from torch import Tensor, nn

_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_load_state_dict_pre_hooks",
)


def rebind_functions(copied: nn.Module, memo: dict[int, Any]) -> None:
    """Make the functions that a copied model holds refer to the copy.

    `deepcopy` leaves functions as they are. A hook such as `lambda m, args, out:
    self.states.append(out)` would collect what the copy computes in the original, and the copy
    would miss it.

    Args:
        copied: The copy of a model.
        memo: The memo of `deepcopy`: from the id of each original object to its copy.

    Example:
        >>> import copy
        >>> def collect(module, outputs):
        ...     module.register_forward_hook(lambda module, args, out: outputs.append(out))
        >>> net, outputs, memo = nn.Linear(1, 1), [], {}
        >>> collect(net, outputs)
        >>> copied = copy.deepcopy(net, memo)
        >>> rebind_functions(copied, memo)
        >>> _ = copied(copied.weight)
        >>> outputs  # the copy collects in a list of its own
        []
    """
    for module in copied.modules():
        for hooks in (vars(module).get(kind, {}) for kind in _HOOKS):
            for key, hook in hooks.items():
                hooks[key] = _rebound(hook, memo)
        for name, value in vars(module).items():
            if isinstance(value, FunctionType | MethodType):
                vars(module)[name] = _rebound(value, memo)


def _rebound(value: Any, memo: dict[int, Any]) -> Any:  # Any: whatever a function refers to
    if id(value) in memo:
        return memo[id(value)]
    if isinstance(value, MethodType):
        owner = _rebound(value.__self__, memo)
        return value if owner is value.__self__ else MethodType(value.__func__, owner)
    if isinstance(value, FunctionType):
        return _rebound_function(value, memo)
    if type(value) is list or type(value) is deque:
        items = value.copy()
        memo[id(value)] = items
        for index, item in enumerate(value):
            items[index] = _rebound(item, memo)
        return items
    if type(value) is dict:
        memo[id(value)] = fresh = dict(value)
        fresh.update((key, _rebound(item, memo)) for key, item in value.items())
        return fresh
    if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        memo[id(value)] = value.detach().clone()  # a hook may change it in place
        return memo[id(value)]
    return value


def _rebound_function(function: FunctionType, memo: dict[int, Any]) -> FunctionType:
    """Return a function that refers to copies; the same function if it refers to none."""
    cells = function.__closure__ or ()
    new_cells = tuple(CellType() for _ in cells)
    code, names = function.__code__, function.__globals__
    fresh = FunctionType(code, names, function.__name__, function.__defaults__, new_cells)
    memo[id(function)] = fresh  # before its cells, which may refer to the function itself
    pairs: list[tuple[Any, Any]] = []  # Any: whatever a function refers to

    def rebound(value: Any) -> Any:
        pairs.append((value, _rebound(value, memo)))
        return pairs[-1][1]

    for cell, original in zip(new_cells, cells, strict=True):
        with suppress(ValueError):  # an empty cell
            cell.cell_contents = rebound(original.cell_contents)
    if function.__defaults__:
        fresh.__defaults__ = tuple(map(rebound, function.__defaults__))
    if function.__kwdefaults__:
        fresh.__kwdefaults__ = {n: rebound(value) for n, value in function.__kwdefaults__.items()}
    if all(new is old or new is fresh for old, new in pairs):
        memo[id(function)] = function  # code may ask `is F.relu`
        return function
    fresh.__dict__.update(function.__dict__)
    fresh.__qualname__, fresh.__module__ = function.__qualname__, function.__module__
    return fresh
