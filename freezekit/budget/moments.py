"""The moments of a step: how much memory is in use, and how far the backward pass has come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from freezekit.memory.tracker import StorageTracker


@dataclass(frozen=True)
class Moment:
    """What is there after an operator.

    Attributes:
        at: In the forward pass the number of the last storage. In the backward pass the number of
            the last one that autograd still holds.
        total_bytes: All that is alive, with the operator's workspace.
        other_bytes: Without what autograd holds; None in the forward pass.
    """

    at: int
    total_bytes: int
    other_bytes: int | None = None


class Moments(TorchDispatchMode):
    """Notes a moment after each operator.

    Attributes:
        found: So far.
        held: Storages that autograd holds, by number. None in the forward pass.
    """

    def __init__(self, tracker: StorageTracker) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # untyped in torch
        self.found: list[Moment] = []
        self.held: Container[int] | None = None
        self._tracker = tracker

    def __torch_dispatch__(
        self,
        func: Any,  # Any: the dispatcher's own protocol, here and below
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run the operator, then look at the tracker."""
        out = func(*args, **(kwargs or {}))
        total = self._tracker.moments[-1]
        if self.held is None:
            self.found.append(Moment(self._tracker.born - 1, total))
        else:
            alive = {n: b for n, b in self._tracker.alive_bytes().items() if n in self.held}
            self.found.append(Moment(max(alive, default=0), total, total - sum(alive.values())))
        return out
