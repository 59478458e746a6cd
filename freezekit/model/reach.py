"""What instances refer to, as far as `deepcopy` follows them, and what functions refer to."""

from __future__ import annotations

import copyreg
from collections import OrderedDict
from types import BuiltinFunctionType, CellType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any
from weakref import ReferenceType

from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

_LEAVES = (
    *(int, float, complex, str, bytes, bytearray, type(None)),
    *(type, ModuleType, BuiltinFunctionType, ReferenceType, Tensor),
)
_NEVER_COPIED = FunctionType, MethodType, CellType, property, range
_DICTS = {dict, OrderedDict}  # a module has ten and more of the latter, for its hooks
_PLAIN = {int, float, bool, str, type(None)}  # most of what modules hold; told apart fast


def reachable(
    *roots: object, closed: type | tuple[type, ...] = (), without: Container[int] = ()
) -> Iterator[object]:
    """Yield each object that these refer to, once, and these themselves, but no number or text.

    These are the objects that `deepcopy` meets, and also what functions captured: their cells and
    defaults. Classes and weak references are yielded and not entered, nor is an object that says
    itself how it is copied (`__deepcopy__`), other than a module.

    Args:
        *roots: Where to begin.
        closed: Types whose instances are yielded and not entered either.
        without: The ids of objects that are left out.

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
        if type(item) in _PLAIN or id(item) in seen or id(item) in without:
            continue
        seen[id(item)] = item
        yield item
        if not isinstance(item, closed):
            waiting.extend(reversed(_referents(item)))


def cells_of(function: FunctionType) -> tuple[CellType, ...]:
    """Return the cells of the variables that a function has from the functions around it."""
    return function.__closure__ or ()


def content_of(cell: CellType) -> list[object]:
    """Return a list of what a cell holds; it is empty before the variable is assigned."""
    try:
        return [cell.cell_contents]
    except ValueError:
        return []


def own_function(method: MethodType) -> list[object]:
    """Return a list of a method's function if it is not that of the object's class.

    Example:
        >>> from types import MethodType
        >>> layer = nn.Linear(2, 2)
        >>> own_function(layer.forward), len(own_function(MethodType(lambda self, x: x, layer)))
        ([], 1)
    """
    cls = method.__self__ if isinstance(method.__self__, type) else type(method.__self__)
    name = getattr(method.__func__, "__name__", "")
    return (
        [] if any(vars(c).get(name) is method.__func__ for c in cls.__mro__) else [method.__func__]
    )


def _referents(item: object) -> list[object]:
    if isinstance(item, _LEAVES) or type(item) in copyreg.dispatch_table:
        return []
    if isinstance(item, dict):
        pairs = [part for pair in item.items() for part in pair]
        return pairs if type(item) in _DICTS else [*pairs, *_state(item)]
    if isinstance(item, (list, tuple, set, frozenset)):
        own = list(item)
        return own if type(item) in (list, tuple, set, frozenset) else [*own, *_state(item)]
    if isinstance(item, MethodType):
        return [item.__self__, *own_function(item)]
    if isinstance(item, FunctionType):
        if str(item.__globals__.get("__name__")).startswith("torch."):
            return []  # such as those that torch.compile makes, which refer to its own machinery
        return [*cells_of(item), item.__defaults__, item.__kwdefaults__, item.__dict__]
    if isinstance(item, CellType):
        return content_of(item)
    if hasattr(type(item), "__deepcopy__") and not isinstance(item, nn.Module):
        return []
    return _state(item)


def refusal(item: Any) -> Exception | None:  # Any: any object
    """Return the error with which an object itself, such as a lock or a file, cannot be copied.

    Example:
        >>> import threading
        >>> refusal(threading.Lock())
        TypeError("cannot pickle '_thread.lock' object")
    """
    if isinstance(item, (*_LEAVES, *_NEVER_COPIED)) or hasattr(type(item), "__deepcopy__"):
        return None
    try:
        if type(item) not in copyreg.dispatch_table:
            item.__reduce_ex__(4)
    except Exception as error:  # noqa: BLE001  # its class may raise anything
        return error
    return None


def _state(item: Any) -> list[object]:  # Any: any object
    """Return what an object is made of according to itself: what `deepcopy` copies."""
    if isinstance(item, nn.Module) and (hasattr(type(item), "__deepcopy__") or _is_usual(item)):
        return list(vars(item).values())  # parametrized modules refuse to be pickled
    try:
        reduced = item.__reduce_ex__(4)
        return [] if isinstance(reduced, str) else [p for part in reduced[1:] for p in _parts(part)]
    except Exception:  # noqa: BLE001  # an object that cannot be copied may raise anything
        return []


def _is_usual(item: object) -> bool:
    names = "__reduce_ex__", "__reduce__", "__getstate__"  # the last is of `object` since 3.11
    return all(getattr(type(item), n, None) is getattr(object, n, None) for n in names)


def _parts(part: Any) -> list[object]:
    if part is None or isinstance(part, (dict, tuple)):
        return [part]
    return list(part)  # iterators over the items of a list or a dict
