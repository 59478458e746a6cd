"""What instances refer to: through modules, containers and the attributes of objects."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING
from weakref import ReferenceType

from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONTAINERS = list, tuple, set, frozenset, deque
_LEAVES = (
    *(int, float, complex, str, bytes, bytearray, type(None)),
    *(type, ModuleType, FunctionType, BuiltinFunctionType, ReferenceType),
)


def reachable(*roots: object) -> Iterator[object]:
    """Yield each object that these refer to, once, and these themselves.

    Classes, functions and weak references are yielded and not entered, nor is an object that says
    itself how it is copied (`__deepcopy__`), other than a module.

    Example:
        >>> layer = nn.Linear(2, 2, bias=False)
        >>> layer.kept = {"deep": [(layer.weight,)]}
        >>> sum(found is layer.weight for found in reachable(layer))
        1
    """
    seen: dict[int, object] = {}  # the values keep temporary objects alive, so that ids stay apart
    waiting = list(reversed(roots))
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen[id(item)] = item
        yield item
        waiting.extend(reversed(_referents(item)))


def _referents(item: object) -> list[object]:
    if isinstance(item, (*_LEAVES, Tensor)):
        return []
    found: list[object] = []
    if isinstance(item, Mapping):
        found += [part for pair in item.items() for part in pair]
    elif isinstance(item, _CONTAINERS):
        found += item
    elif isinstance(item, MethodType):
        return [item.__self__, item.__func__]
    elif isinstance(item, functools.partial):
        found += [item.func, *item.args, *item.keywords.values()]
    elif hasattr(type(item), "__deepcopy__") and not isinstance(item, nn.Module):
        return []
    return [*found, *attributes(item).values()]


def attributes(item: object) -> dict[str, object]:
    """Return the attributes of an instance, those in slots too.

    Example:
        >>> from dataclasses import dataclass
        >>> attributes(dataclass(slots=True)(type("Kept", (), {"__annotations__": {"x": int}}))(3))
        {'x': 3}
    """
    names = [
        name
        for cls in type(item).__mro__
        if isinstance(slots := cls.__dict__.get("__slots__", ()), (tuple, list))
        for name in slots
        if isinstance(name, str) and not name.startswith("__") and hasattr(item, name)
    ]
    return {name: getattr(item, name) for name in names} | getattr(item, "__dict__", {})
