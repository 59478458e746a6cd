"""What stands for a saved tensor between forward and backward, and makes it again."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from freezekit.lean.bits import Question, unpack_bits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager


class Kept(Protocol):
    """What autograd holds instead of a tensor."""

    def restore(self) -> Tensor:
        """Return a tensor that gives the same gradients as the one that was saved."""
        ...


class Whole:
    """The tensor itself, as autograd would have kept it."""

    __slots__ = ("tensor", "version")

    def __init__(self, tensor: Tensor) -> None:
        # an output must not be held with its graph: it would hold itself
        self.tensor = tensor if tensor.is_leaf else tensor.detach()
        self.version = tensor._version

    @property
    def changed(self) -> bool:
        """Whether the tensor was changed in place since it was saved."""
        return self.tensor._version != self.version

    def restore(self) -> Tensor:
        """Return the tensor; refuse one that was changed, as autograd itself does."""
        if self.changed:
            raise RuntimeError(
                "one of the variables needed for gradient computation has been modified by an "
                f"inplace operation: {self.tensor.type()} {list(self.tensor.shape)} is at version "
                f"{self.tensor._version}; expected version {self.version} instead"
            )
        return self.tensor


@dataclass(frozen=True)
class Form:
    """Everything of a tensor but its values."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, tensor: Tensor) -> Form:
        """Return the form of a tensor."""
        return cls(tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device)

    def empty(self) -> Tensor:
        """Return a tensor of this form, with any values."""
        return torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device=self.device)


@dataclass(frozen=True)
class Hollow:
    """The form of a tensor whose values no gradient asks for.

    Attributes:
        form: Of the tensor.
        readable: Restore zeros: the kernel reads what it then throws away, or copies it into
            another layout first. Otherwise what is restored has no memory at all.
    """

    form: Form
    readable: bool = False

    def restore(self) -> Tensor:
        """Return a tensor of the same form."""
        tensor = self.form.empty()
        if self.readable:
            return tensor.zero_()
        tensor.untyped_storage().resize_(0)
        return tensor


@dataclass(frozen=True)
class TwoValues:
    """A tensor of two values, such as what dropout multiplies with: a bit for each element."""

    bits: Tensor
    question: Question
    form: Form

    @classmethod
    def of(cls, tensor: Tensor, question: Question) -> TwoValues:
        """Keep a dense tensor of the question's `zero` and `one`."""
        asked = tensor.view(torch.uint8) if tensor.dtype == torch.bool else tensor
        return cls(question.ask(asked), question, Form.of(tensor))

    def restore(self) -> Tensor:
        """Return the tensor."""
        numel, asked = torch.Size(self.form.shape).numel(), self.question
        values = unpack_bits(self.bits, numel, asked.zero, asked.one, self.form.dtype)
        return values.as_strided(self.form.shape, self.form.stride)


@dataclass(frozen=True)
class Derived:
    """How to compute an activation again from what is kept anyway.

    Attributes:
        form: Of the activation.
        function: A deterministic one that costs little, such as an activation function. Its kernels
            are those of the forward, so that every bit comes out again.
        args: Its positional arguments; what is `Kept` is restored first.
        kwargs: Its keyword arguments, likewise.
    """

    form: Form
    function: Callable[..., Tensor]
    args: Sequence[Any]  # Any: whatever the function takes
    kwargs: dict[str, Any] = field(default_factory=dict)  # Any: as above

    @cached_property
    def calls(self) -> int:
        """How many functions are called to compute it, those of its arguments among them."""
        given = (*self.args, *self.kwargs.values())
        return 1 + sum(a.derived.calls for a in given if isinstance(a, Recomputed))

    def compute(self) -> Tensor:
        """Return the activation; autocast is off: what is kept has been cast already."""
        args = [_restored(a) for a in self.args]
        kwargs = {name: _restored(a) for name, a in self.kwargs.items()}
        with torch.no_grad(), _no_autocast(self.form.device.type):
            tensor = self.function(*args, **kwargs)
            if tensor.stride() == self.form.stride:
                return tensor
            return self.form.empty().copy_(tensor)


def _no_autocast(device_type: str) -> AbstractContextManager[object]:
    if not torch.amp.is_autocast_available(device_type):  # as on meta
        return nullcontext()
    return torch.autocast(device_type, enabled=False)


def _restored(given: Any) -> Any:  # Any: an argument of whatever function
    return given.restore() if hasattr(given, "restore") else given


@dataclass(frozen=True)
class Recomputed:
    """An activation, or a view of one, that backward computes again."""

    derived: Derived
    view: tuple[tuple[int, ...], tuple[int, ...], int] | None = None

    def restore(self) -> Tensor:
        """Compute it."""
        tensor = self.derived.compute()
        return tensor if self.view is None else tensor.as_strided(*self.view)


def restore(kept: Kept) -> Tensor:
    """Return what was saved: the unpack hook of everything that lean keeps."""
    return kept.restore()
