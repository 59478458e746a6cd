"""Which parameters a tensor depends on, as autograd itself has recorded it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freezekit.model.nested import tensors

if TYPE_CHECKING:
    from torch import nn


class Flow:
    """Follows the graph of a forward pass back to the parameters.

    A set of parameters is an int here, one bit for each: graphs have thousands of nodes.

    Args:
        model: The model that runs; its parameters must require gradients.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
        >>> flow = Flow(model)
        >>> hidden = model[0](torch.ones(1, 2))
        >>> flow.names(flow.reach(hidden)), flow.names(flow.reach(hidden.detach()))
        (('0.weight', '0.bias'), ())
    """

    def __init__(self, model: nn.Module) -> None:
        self._names = tuple(name for name, _ in model.named_parameters())
        self._mask_of = {name: 1 << at for at, name in enumerate(self._names)}
        self._bits = {id(p): 1 << at for at, p in enumerate(model.parameters())}
        # The nodes themselves are the keys: the id of a node that is freed may be used again.
        self._seen: dict[Any, int] = {}  # Any: torch has no public type for them all

    def names(self, reach: int) -> tuple[str, ...]:
        """Return the parameters in a set."""
        return tuple(name for at, name in enumerate(self._names) if reach >> at & 1)

    def mask(self, name: str) -> int:
        """Return the set of this parameter alone."""
        return self._mask_of[name]

    def reach(self, value: Any) -> int:  # Any: whatever a module returns
        """Return the parameters that some tensor in a value depends on."""
        found = 0
        for tensor in tensors(value):
            found |= self._bits.get(id(tensor), 0)
            found |= self.behind(tensor.grad_fn) if tensor.grad_fn is not None else 0
        return found

    def behind(self, node: Any) -> int:  # Any: see `_seen`
        """Return the parameters that a node of the graph depends on."""
        stack = [node]
        while stack:
            top = stack[-1]
            ahead = [n for n, _ in top.next_functions if n is not None]
            missing = [n for n in ahead if n not in self._seen]
            if missing:
                stack.extend(missing)
                continue
            stack.pop()
            leaf = getattr(top, "variable", None)
            reached = self._bits.get(id(leaf), 0)
            for n in ahead:
                reached |= self._seen[n]
            self._seen[top] = reached
        return self._seen[node]
