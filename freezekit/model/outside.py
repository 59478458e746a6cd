"""State outside of a model that its forward and its hooks use: found, and restored."""

from __future__ import annotations

import copy
import sys
from collections import deque
from contextlib import contextmanager
from functools import partial
from types import CellType, FunctionType, ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from freezekit.model.copied_functions import captures, global_values, names_in
from freezekit.model.reach import cells_of, content_of, reachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_CONTAINERS = dict, list, set, deque
_DEFINITIONS = ModuleType, FunctionType, type
_FOREIGN = {"torch", "numpy", "builtins", *sys.stdlib_module_names} - {"__main__"}
"""Top-level modules whose classes and functions keep no state of a user's model."""


@contextmanager
def caches_kept(model: nn.Module) -> Iterator[None]:
    """Restore what a forward of a copy leaves outside of the copy.

    These are the variables, dicts, lists, sets and function caches of a model's classes, of their
    files and of the files of its hooks, and all objects of `shared_state`. A forward on tensors
    without data may leave such tensors there, where the next forward on real data would find them.

    Example:
        >>> class Counts(nn.Module):
        ...     seen = []
        >>> with caches_kept(Counts()):
        ...     Counts.seen.append("a tensor")
        >>> Counts.seen
        []
    """
    classes, functions = _own_classes(model.modules()), _instance_functions(model)
    files = {cls.__module__ for cls in classes} & sys.modules.keys()
    spaces = {id(space): space for space in (vars(sys.modules[name]) for name in files)}
    spaces |= {id(f.__globals__): f.__globals__ for f in functions if _is_own(f)}
    values = [v for space in (*map(vars, classes), *spaces.values()) for v in list(space.values())]
    restore = [_Contents(value) for value in values if type(value) in (dict, list, set)]
    shared = _shared_state(model, functions)
    restore += [_Contents(item) for item in shared if not isinstance(item, CellType)]
    cells = [(item, content_of(item)) for item in shared if isinstance(item, CellType)]
    functions += [f for value in values for f in _functions_in(value)]
    variables = [_Variables.of_class(cls) for cls in classes]
    variables += [_Variables.of_file(space, functions) for space in spaces.values()]
    cached = [v for v in values if hasattr(v, "cache_clear") and not v.cache_info().currsize]
    try:
        yield
    finally:
        for contents in restore:
            contents.restore()
        for cell, before in cells:
            for content in before:
                cell.cell_contents = content
        for names in variables:
            names.restore()
        for function in cached:
            function.cache_clear()


def shared_state(model: nn.Module) -> list[object]:
    """Return the objects outside of a model that its hooks find by global names.

    A copy of the model shares them with the model, because the functions of classes, and global
    names, are not copied. These are the containers, objects and variables that functions of the
    model's classes use, or its hooks by a global name, with all that they refer to. A model without
    forward hooks and without closures of its own has none.
    """
    return _shared_state(model, _instance_functions(model))


def _shared_state(model: nn.Module, functions: list[FunctionType]) -> list[object]:
    if not any(map(captures, functions)) and not has_hooks(model):
        return []
    items = [item for item in reachable(model, closed=Tensor) if not isinstance(item, type)]
    methods = [
        function
        for cls in _own_classes(items)
        for value in vars(cls).values()
        for function in _functions_in(value)
    ]
    named: list[object] = [cell for method in methods for cell in cells_of(method)]
    seen: dict[int, FunctionType] = {}
    waiting = [*functions, *methods]
    while waiting:
        function = waiting.pop()
        if id(function) in seen or not _is_own(function):
            continue
        seen[id(function)] = function
        for _, value in global_values(function):
            if isinstance(value, FunctionType):
                waiting.append(value)
                named += [value.__dict__, *cells_of(value)]
            elif _is_state(value):
                named.append(value)
    found = reachable(*named, closed=(nn.Module, Tensor))
    return [item for item in found if isinstance(item, CellType) or _is_state(item)]


def has_hooks(model: nn.Module) -> bool:
    """Tell whether any module has a forward hook or a forward pre-hook."""
    return any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def _instance_functions(model: nn.Module) -> list[FunctionType]:
    return [item for item in reachable(model, closed=Tensor) if isinstance(item, FunctionType)]


def _own_classes(items: Iterable[object]) -> list[type]:
    classes = {cls: None for item in items for cls in type(item).__mro__}
    return [cls for cls in classes if cls.__module__.partition(".")[0] not in _FOREIGN]


def _functions_in(value: Any) -> list[FunctionType]:  # Any: an attribute of a class
    """Return the functions in a class's attribute, within a decorator of Python's own."""
    parts = [value, getattr(value, "__func__", None), getattr(value, "fget", None)]
    return [part for part in parts if isinstance(part, FunctionType)]


def _is_own(function: FunctionType) -> bool:
    return str(function.__globals__.get("__name__")).partition(".")[0] not in _FOREIGN


def _is_state(value: object) -> bool:
    if isinstance(value, (*_DEFINITIONS, nn.Module, Tensor)):
        return False
    if isinstance(value, (*_CONTAINERS, SimpleNamespace)):
        return True
    return hasattr(value, "__dict__") and bool(_own_classes([value]))


class _Contents:
    """The items and attributes of an object, to be restored if they are others later."""

    def __init__(self, item: Any) -> None:  # Any: a container or an object with attributes
        self._item = item
        self._items = copy.copy(item) if isinstance(item, _CONTAINERS) else None
        self._attributes = dict(getattr(item, "__dict__", {}))

    def restore(self) -> None:
        if self._items is not None and not _same(self._item, self._items):
            self._item.clear()
            extend = isinstance(self._item, (list, deque))
            (self._item.extend if extend else self._item.update)(self._items)
        attributes = getattr(self._item, "__dict__", {})
        if not _same(attributes, self._attributes):
            attributes.clear()
            attributes.update(self._attributes)


def _same(one: Any, other: Any) -> bool:  # Any: two containers of one type
    """Tell whether two containers hold the same objects in the same order."""
    if len(one) != len(other):
        return False
    if isinstance(one, dict) and any(map(_is_other, one.values(), other.values())):
        return False
    return not any(map(_is_other, one, other))


def _is_other(one: object, other: object) -> bool:
    return one is not other


class _Variables:
    """The values of variables of a file or a class, to be restored if they are others later.

    Modules, functions and classes stay: a forward may import something.
    """

    def __init__(
        self,
        names: Iterable[str],
        values: Any,  # Any: a dict, or the proxy of a class's
        assign: Callable[[str, object], None],
        delete: Callable[[str], None],
    ) -> None:
        self._values, self._assign, self._delete = values, assign, delete
        self._before = {n: values.get(n, _NOTHING) for n in names if not n.startswith("__")}

    @classmethod
    def of_file(cls, space: dict[str, object], functions: Iterable[FunctionType]) -> _Variables:
        """Take the names that these functions use. Other code may run and assign others."""
        own = (function for function in functions if function.__globals__ is space)
        names = {name for function in own for name in names_in(function.__code__)}
        return cls(names, space, space.__setitem__, space.__delitem__)

    @classmethod
    def of_class(cls, owner: type) -> _Variables:
        assign, delete = partial(setattr, owner), partial(delattr, owner)
        functions = (f for value in vars(owner).values() for f in _functions_in(value))
        used = (name for function in functions for name in names_in(function.__code__))
        return cls({*vars(owner), *used}, vars(owner), assign, delete)

    def restore(self) -> None:
        for name, before in self._before.items():
            value = self._values.get(name, _NOTHING)
            if value is before or isinstance(value, _DEFINITIONS):
                continue
            if before is _NOTHING:
                self._delete(name)
            else:
                self._assign(name, before)


_NOTHING = object()
