"""Bits replace an activation only after every consumer has released it.

Whether a consumer saves the whole activation is known only later in the forward. As long as
somebody holds it, bits would cost memory instead of saving it.
"""

from __future__ import annotations

import weakref
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch

from freezekit.lean.saved_tensors import SavedAsIs

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from torch import Tensor

    from freezekit.lean.bits import BitEncoding

_UNSHARED_USE_COUNT = 2
"""References to a storage that nobody shares: one by the tensor, one by the Python object that is
asked for the count."""


class PackableActivation:
    """An activation of which one bit per element is enough.

    It is held whole until it has died (no Python object refers to it) and nobody shares its
    storage. Then it is packed into bits.
    """

    __slots__ = ("__weakref__", "_bits", "_death", "_encoding", "_stream", "_whole")

    def __init__(self, encoding: BitEncoding) -> None:
        self._encoding = encoding
        self._whole: SavedAsIs | None = None
        self._bits: Tensor | None = None
        self._death: weakref.ref[Tensor] | None = None
        self._stream: torch.cuda.Stream | None = None

    def hold(self, activation: Tensor, death: weakref.ref[Tensor]) -> None:
        """Hold the activation, and the weak reference whose callback reports its death."""
        self._whole, self._death = SavedAsIs(activation), death
        if type(activation) is torch.Tensor and activation.is_cuda:
            self._stream = torch.cuda.current_stream(activation.device)

    def whole_or_bits(self) -> Tensor:
        """Return the activation, or its bits where it was packed."""
        if self._bits is not None:
            return self._bits
        assert self._whole is not None
        return self._whole.restore()

    def pack(self) -> None:
        """Replace the activation by its bits, unless it was changed in place."""
        if self._whole is None or self._whole.is_modified:
            return
        if not _would_be_without_memory(self._whole.tensor):
            with _on_stream(self._stream):
                self._bits = self._encoding.encode(self._whole.tensor)
                self._whole = self._death = None

    @property
    def is_shared(self) -> bool:
        """Whether somebody else holds its storage: an alias, or another saved tensor."""
        if self._whole is None:
            return False
        storage = self._whole.tensor.untyped_storage()
        return torch._C._storage_Use_Count(storage._cdata) > _UNSHARED_USE_COUNT


def _would_be_without_memory(activation: Tensor) -> bool:
    """Tell whether its bits would be a wrapper or fake, which no later gradient can use."""
    fake = torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE)
    is_in_fake = fake is not None and type(activation) is torch.Tensor
    return is_in_fake or torch._C._functorch.peek_interpreter_stack() is not None


def _on_stream(stream: torch.cuda.Stream | None) -> AbstractContextManager[object]:
    """Run on the stream that computed an activation, on which its gradient will run too."""
    if stream is None or stream == torch.cuda.current_stream(stream.device):
        return nullcontext()
    return torch.cuda.stream(stream)


class DeferredPacking:
    """The activations of one forward that may be packed; they live as long as their graph.

    Attributes:
        died: Keys of the activations that died since `pack_dead` was last called.
    """

    def __init__(self) -> None:
        self._alive: dict[int, weakref.ref[PackableActivation]] = {}
        self._shared: list[weakref.ref[PackableActivation]] = []
        self._watched = 0
        self.died: list[int] = []

    def watch(self, packable: PackableActivation, activation: Tensor) -> None:
        """Hold the activation until it dies."""
        self._watched += 1
        died, key = self.died, self._watched  # a callback that held self would keep it alive
        packable.hold(activation, weakref.ref(activation, lambda _: died.append(key)))
        self._alive[key] = weakref.ref(packable)

    def pack_dead(self) -> None:
        """Pack the activations that have died, except those whose storage is shared."""
        while self.died:
            reference = self._alive.pop(self.died.pop(), None)
            if reference is None or (packable := reference()) is None:
                continue
            if packable.is_shared:
                self._shared.append(reference)
            else:
                packable.pack()

    def finish(self) -> None:
        """Pack what can be packed at the end of the forward; the rest stays whole."""
        self.pack_dead()
        for reference in self._shared:
            packable = reference()
            if packable is not None and not packable.is_shared:
                packable.pack()
        self._shared.clear()
        self._alive.clear()
