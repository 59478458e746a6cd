"""What autograd holds in the place of a saved tensor, and how backward gets the tensor from it."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from freezekit.lean.bits import BitEncoding, unpack_bits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager


class SavedTensor(Protocol):
    """What autograd holds in the place of a tensor."""

    def restore(self) -> Tensor:
        """Return a tensor that gives the same gradients as the original."""
        ...


class SavedAsIs:
    """The tensor itself, as stock autograd would save it."""

    __slots__ = ("tensor", "version")

    def __init__(self, tensor: Tensor) -> None:
        # Detached, because an output that is saved with its graph would keep itself alive.
        self.tensor: Tensor = tensor if tensor.is_leaf else tensor.detach()
        self.version: int = tensor._version

    @property
    def is_modified(self) -> bool:
        """Whether the tensor was changed in place since it was saved."""
        return self.tensor._version != self.version

    def restore(self) -> Tensor:
        """Return the tensor; raise autograd's own error where it was changed in place."""
        if self.is_modified:
            raise RuntimeError(
                "one of the variables needed for gradient computation has been modified by an "
                f"inplace operation: {self.tensor.type()} {list(self.tensor.shape)} is at version "
                f"{self.tensor._version}; expected version {self.version} instead"
            )
        return self.tensor


@dataclass(frozen=True)
class TensorMetadata:
    """All of a tensor but its values."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, tensor: Tensor) -> TensorMetadata:
        """Return the metadata of a tensor."""
        return cls(tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device)

    def empty(self) -> Tensor:
        """Return a tensor with this metadata and arbitrary values."""
        return torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device=self.device)


@dataclass
class SavedShape:
    """The metadata of a tensor whose values no gradient needs.

    Attributes:
        metadata: Of the tensor.
        needs_memory: Whether backward gets a placeholder of zeros. Otherwise its placeholder has no
            memory, and to ask for its address raises an error: no kernel can read it by mistake.
    """

    metadata: TensorMetadata
    needs_memory: bool = False

    def restore(self) -> Tensor:
        """Return a placeholder of the same shape, strides, type and device.

        Under `create_graph=True` it has memory, because the graph of the gradient holds it and
        hands it to kernels that nobody watches.
        """
        placeholder = self.metadata.empty()
        if self.needs_memory or torch.is_grad_enabled() or _deny_access is None:
            return placeholder.zero_()
        storage = placeholder.untyped_storage()
        storage.resize_(0)
        if type(placeholder) is Tensor:  # a fake tensor has no memory that a kernel could read
            _deny_access(storage._cdata, "this tensor has no memory: lean saved only its shape")
        return placeholder


_deny_access: Callable[[int, str], None] | None
_deny_access = getattr(torch._C, "_set_storage_data_ptr_access_error_msg", None)  # not in its API


@dataclass(frozen=True)
class SavedBits:
    """A tensor of two values, such as the mask of dropout, as one bit per element."""

    bits: Tensor
    encoding: BitEncoding
    metadata: TensorMetadata

    @classmethod
    def of(cls, tensor: Tensor, encoding: BitEncoding) -> SavedBits:
        """Save a dense tensor whose values are the encoding's `zero` and `one`."""
        numbers = tensor.view(torch.uint8) if tensor.dtype == torch.bool else tensor
        return cls(encoding.encode(numbers), encoding, TensorMetadata.of(tensor))

    def restore(self) -> Tensor:
        """Return the tensor, bit for bit."""
        numel, encoding = torch.Size(self.metadata.shape).numel(), self.encoding
        values = unpack_bits(self.bits, numel, encoding.zero, encoding.one, self.metadata.dtype)
        return values.as_strided(self.metadata.shape, self.metadata.stride)


@dataclass(frozen=True)
class Recomputation:
    """How to compute an activation again from what is saved anyway.

    Attributes:
        metadata: Of the activation.
        function: A cheap and deterministic one, such as an activation function. It runs the kernel
            of the forward again, so that the result has the same bits.
        args: Its positional arguments. Each `SavedTensor` among them is restored first.
        kwargs: Its keyword arguments, likewise.
    """

    metadata: TensorMetadata
    function: Callable[..., Tensor]
    args: Sequence[Any]  # Any: whatever the function takes
    kwargs: dict[str, Any] = field(default_factory=dict)  # Any: as above

    @cached_property
    def call_count(self) -> int:
        """Number of function calls that it takes, with those for its arguments."""
        given = (*self.args, *self.kwargs.values())
        return 1 + sum(a.recomputation.call_count for a in given if isinstance(a, Recomputed))

    def compute(self) -> Tensor:
        """Return the activation. Autocast is off, because the saved arguments are already cast."""
        args = [_restored(a) for a in self.args]
        kwargs = {name: _restored(a) for name, a in self.kwargs.items()}
        with torch.no_grad(), _no_autocast(self.metadata.device.type):
            tensor = self.function(*args, **kwargs)
            if tensor.stride() == self.metadata.stride:
                return tensor
            return self.metadata.empty().copy_(tensor)


def _no_autocast(device_type: str) -> AbstractContextManager[object]:
    if not torch.amp.is_autocast_available(device_type):  # on "meta", for instance
        return nullcontext()
    return torch.autocast(device_type, enabled=False)


def _restored(argument: Any) -> Any:  # Any: an argument of any function
    return argument.restore() if hasattr(argument, "restore") else argument


@dataclass(frozen=True)
class Recomputed:
    """An activation that backward computes again, or a view of one.

    Attributes:
        recomputation: How the activation is computed.
        view: Shape, strides and storage offset of the view; None for the activation itself.
    """

    recomputation: Recomputation
    view: tuple[tuple[int, ...], tuple[int, ...], int] | None = None

    def restore(self) -> Tensor:
        """Compute it."""
        tensor = self.recomputation.compute()
        return tensor if self.view is None else tensor.as_strided(*self.view)


def restore(saved: SavedTensor) -> Tensor:
    """Return the tensor: the unpack hook for all that lean saves."""
    return saved.restore()
