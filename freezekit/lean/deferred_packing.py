"""Bits of an activation that its consumers may keep whole: decided when it has died."""

from __future__ import annotations

import weakref
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch

from freezekit.lean.saved_tensors import Whole

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from torch import Tensor

    from freezekit.lean.bits import Question

_ALONE = 2  # references to a storage: those of one tensor, and of the object that is asked


class Pending:
    """An activation of which a bit per element would do.

    As long as something else holds it, bits beside it would cost memory, not save any. So it is
    held whole, and packed once it has died and nobody shares its storage.
    """

    __slots__ = ("__weakref__", "_bits", "_death", "_question", "_stream", "_whole")

    def __init__(self, question: Question) -> None:
        self._question = question
        self._whole: Whole | None = None
        self._bits: Tensor | None = None
        self._death: weakref.ref[Tensor] | None = None
        self._stream: torch.cuda.Stream | None = None

    def hold(self, activation: Tensor, death: weakref.ref[Tensor]) -> None:
        """Hold the activation, and the reference whose callback tells of its death."""
        self._whole, self._death = Whole(activation), death
        if type(activation) is torch.Tensor and activation.is_cuda:
            self._stream = torch.cuda.current_stream(activation.device)

    def tensor(self) -> Tensor:
        """Return the activation, or its bits."""
        if self._bits is not None:
            return self._bits
        assert self._whole is not None
        return self._whole.restore()

    def pack(self) -> None:
        """Let go of the activation but for its bits."""
        if self._whole is not None and not self._whole.changed:
            with _on(self._stream):
                self._bits = self._question.ask(self._whole.tensor)
                self._whole = self._death = None

    @property
    def is_shared(self) -> bool:
        """Whether others hold its memory: by an alias, or as something else of our own."""
        if self._whole is None:
            return False
        storage = self._whole.tensor.untyped_storage()
        return torch._C._storage_Use_Count(storage._cdata) > _ALONE


def _on(stream: torch.cuda.Stream | None) -> AbstractContextManager[object]:
    """Run on the stream that an activation was made on, and on which its gradient will be."""
    if stream is None or stream == torch.cuda.current_stream(stream.device):
        return nullcontext()
    return torch.cuda.stream(stream)


class Settling:
    """The pending activations of one forward; they live as long as the graph that needs them."""

    def __init__(self) -> None:
        self._alive: dict[int, weakref.ref[Pending]] = {}
        self._shared: list[weakref.ref[Pending]] = []
        self._watched = 0
        self.died: list[int] = []  # keys of those that died since `settle` was last called

    def watch(self, pending: Pending, activation: Tensor) -> None:
        """Hold the activation until it dies."""
        self._watched += 1
        died, key = self.died, self._watched  # a callback must not hold what holds it
        pending.hold(activation, weakref.ref(activation, lambda _: died.append(key)))
        self._alive[key] = weakref.ref(pending)

    def settle(self) -> None:
        """Pack those that have died, but for those whose memory is shared."""
        while self.died:
            reference = self._alive.pop(self.died.pop(), None)
            if reference is None or (pending := reference()) is None:
                continue
            if pending.is_shared:
                self._shared.append(reference)
            else:
                pending.pack()

    def finish(self) -> None:
        """Pack what can be packed at the end of the forward; the rest stays whole."""
        self.settle()
        for reference in self._shared:
            pending = reference()
            if pending is not None and not pending.is_shared:
                pending.pack()
        self._shared.clear()
        self._alive.clear()
