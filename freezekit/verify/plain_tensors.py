"""Tensors that modules keep outside of parameters and buffers."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator

_OF_TORCH = nn.Module().__dict__.keys()
"""Attributes of every module: parameters, buffers, inner modules, hooks."""

_MAX_VALUES = 100_000
"""Values that are looked at for one module, which may refer to a trainer with its data set."""


@dataclass
class Reachable:
    """What is reached from one value through lists, mappings and plain objects.

    Attributes:
        tensors: By path, such as "mean", "queue[0]" or "state['mean']". Each tensor once.
        lengths: The lengths of lists and the like, by path.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    _seen: set[int] = field(default_factory=set)

    def add(self, path: str, value: Any) -> None:  # Any: whatever a module keeps
        """Add what is reached from a value; modules are left out, as they have names of their own.

        Example:
            >>> import torch
            >>> found = Reachable()
            >>> found.add("state", {"mean": torch.zeros(1), "past": [torch.ones(1)]})
            >>> list(found.tensors), found.lengths
            (["state['mean']", "state['past'][0]"], {"state['past']": 1})
        """
        waiting = [(path, value)]  # no recursion: a linked list may be long
        while waiting and len(self._seen) < _MAX_VALUES:
            path, value = waiting.pop()
            if id(value) in self._seen:
                continue
            self._seen.add(id(value))
            if isinstance(value, Tensor):
                self.tensors[path] = value
            else:
                if isinstance(value, list | tuple | deque):
                    self.lengths[path] = len(value)
                waiting += reversed(list(_parts(path, value)))


def plain_tensors(module: nn.Module) -> Reachable:
    """Return the tensors in a module's own attributes, without parameters and buffers.

    Example:
        >>> import torch
        >>> class Norm(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.scale, self.mean = nn.Parameter(torch.ones(1)), torch.zeros(1)
        >>> list(plain_tensors(Norm()).tensors)
        ['mean']
    """
    found = Reachable()
    for name, value in vars(module).items():
        if name not in _OF_TORCH:
            found.add(name, value)
    return found


def _parts(path: str, value: Any) -> Iterator[tuple[str, Any]]:  # Any: whatever a module keeps
    if isinstance(value, Mapping):
        yield from ((f"{path}[{key!r}]", item) for key, item in list(value.items()))
    elif isinstance(value, list | tuple | set | frozenset | deque):
        yield from ((f"{path}[{index}]", item) for index, item in enumerate(value))
    elif isinstance(value, nn.Module | type | ModuleType):
        return
    elif type(value).__module__.partition(".")[0] != "freezekit":  # what freeze_ put there
        held = getattr(value, "__dict__", {})
        yield from ((f"{path}.{name}", item) for name, item in list(held.items()))
