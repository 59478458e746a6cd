"""Functions that captured variables, rebuilt for a copy of the model.

`deepcopy` takes functions as they are. A hook that is a closure over the model, or over a dict in
which it keeps outputs, would go on working on the original.
"""

from __future__ import annotations

import copy
from types import CellType, CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from torch import nn

from freezekit.model.reach import cells_of, content_of, reachable

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from freezekit.model.copied_tensors import Memo


class CopiedFunctions:
    """The rebuilt functions of one copy: first empty, so that copies may refer to them.

    A function has a copy if it captured variables, has defaults or attributes, or refers to a
    module of the model by a global name. Two functions that share a variable share it in the copy.

    Args:
        model: The original.
        memo: Of `deepcopy`. What it holds already keeps that copy.
    """

    def __init__(self, model: nn.Module, memo: Memo) -> None:
        self._memo = memo
        self._own = {id(module) for module in model.modules()}
        self._cells: list[tuple[CellType, CellType]] = []
        self._functions: list[tuple[FunctionType, FunctionType]] = []

    def add(self, *roots: object, without: Container[int] = ()) -> None:
        """Rebuild, still empty, the functions that these refer to."""
        for item in list(reachable(*roots, without=without)):
            if isinstance(item, FunctionType) and id(item) not in self._memo:
                named = bool(self._named_modules(item))
                if named or captures(item):
                    self._memo[id(item)] = self._empty(item, own_globals=named)

    def fill(self, *, shared: bool) -> None:
        """Copy what the added functions captured, when the model is copied.

        Args:
            shared: Let the copy share what cannot be copied; raise the error otherwise.
        """
        cells, self._cells = self._cells, []
        functions, self._functions = self._functions, []
        for old, new in cells:
            for content in content_of(old):
                new.cell_contents = self._copied(content, shared)
        for function, rebuilt in functions:
            rebuilt.__defaults__ = self._copied(function.__defaults__, shared)
            rebuilt.__kwdefaults__ = self._copied(function.__kwdefaults__, shared)
            rebuilt.__dict__.update(self._copied(function.__dict__, shared))
            for name, module in self._named_modules(function).items():
                rebuilt.__globals__[name] = self._memo[id(module)]

    def forget(self) -> None:
        """Drop the functions that were added and are not filled."""
        self._cells.clear()
        self._functions.clear()

    def copied(self, item: Any) -> Any:  # Any: a hook, or an attribute of a module
        """Return the copy of an item; the function of a method is a rebuilt one if it has one."""
        if isinstance(item, MethodType):
            function = self._memo.get(id(item.__func__), item.__func__)
            return MethodType(function, copy.deepcopy(item.__self__, self._memo))
        return copy.deepcopy(item, self._memo)

    def _named_modules(self, function: FunctionType) -> dict[str, nn.Module]:
        """Return the modules of the model that a function refers to by a global name."""
        return {
            name: value
            for name, value in global_values(function)
            if isinstance(value, nn.Module) and id(value) in self._own
        }

    def _empty(self, function: FunctionType, *, own_globals: bool) -> FunctionType:
        for cell in cells_of(function):
            if id(cell) not in self._memo:
                self._memo[id(cell)] = CellType()
                self._cells.append((cell, self._memo[id(cell)]))
        rebuilt = FunctionType(
            function.__code__,
            dict(function.__globals__) if own_globals else function.__globals__,
            function.__name__,
            closure=tuple(self._memo[id(cell)] for cell in cells_of(function)) or None,
        )
        rebuilt.__qualname__, rebuilt.__module__ = function.__qualname__, function.__module__
        self._functions.append((function, rebuilt))
        return rebuilt

    def _copied(self, content: Any, shared: bool) -> Any:  # Any: whatever a function captured
        before = dict(self._memo)
        try:
            return copy.deepcopy(content, self._memo)
        except Exception:
            if not shared:
                raise
            self._memo.clear()  # it holds half a copy
            self._memo.update(before)
            return content


def global_values(function: FunctionType) -> Iterator[tuple[str, object]]:
    """Yield the global names in the body of a function that have a value, with their values.

    Example:
        >>> [name for name, _ in global_values(global_values)]
        ['names_in']
    """
    for name in names_in(function.__code__):
        if name in function.__globals__:
            yield name, function.__globals__[name]


def names_in(code: CodeType) -> Iterator[str]:
    """Yield the names of the global variables and attributes in a function and those inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):  # a function or comprehension inside
            yield from names_in(constant)


def captures(function: FunctionType) -> bool:
    """Tell whether a function holds variables, defaults or attributes; torch's own stay as is."""
    if str(function.__globals__.get("__name__")).startswith("torch."):
        return False
    held = function.__closure__, function.__defaults__, function.__kwdefaults__, function.__dict__
    return any(held)
