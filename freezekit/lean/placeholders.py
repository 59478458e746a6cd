"""Functions whose gradient needs the shape of their input: backward on a placeholder.

The formula of the gradient uses the shape alone. But a kernel may read the input all the same: it
copies it into another layout, or computes a gradient that is then thrown away. Which kernel runs
is known only when it runs: it depends on the build of torch, the processor and torch's switches. So
the backward first runs on a placeholder without memory, which raises an error where a kernel asks
for its address. It then runs again on a placeholder of zeros.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from freezekit.lean.nodes import Nodes, nodes_between
from freezekit.lean.saved_tensors import SavedShape, SavedTensor, TensorMetadata

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from freezekit.lean.mode import Call, LeanMode

MAX_REMEMBERED = 4096
"""Of the calls whose kernels asked for memory. A program that makes more shapes starts anew."""

_asked_for_memory: set[Hashable] = set()


def run_on_placeholder(
    mode: LeanMode,
    call: Call,
    inputs: Sequence[Any],
    *,
    needs_memory: bool = False,
    save_other: Callable[[Tensor], SavedTensor] | None = None,
) -> Any:  # Any: what the function returns
    """Run a function so that autograd holds only the shape of its input.

    Args:
        mode: The mode.
        call: The function and its arguments.
        inputs: The arguments that may need a gradient, first the one of which the shape is saved.
        needs_memory: Whether the placeholder has memory from the start. Where it has none, and a
            kernel asks for it, part of that call's backward runs twice. So this is worth
            knowing; nothing depends on it.
        save_other: From another saved tensor to what is held; by default `LeanMode.save`.
    """
    held: list[_Undecided] = []

    def save(tensor: Tensor) -> SavedTensor:
        held.append(_Undecided(tensor))
        return held[-1]

    out = mode.run(call, save)
    if not held:
        return out
    result = out[0] if isinstance(out, tuple) else out
    nodes = nodes_between(result, inputs)
    if nodes is None:  # torch computed the function in another way, whose formulas are not known
        for undecided in held:
            undecided.decide(mode.save)
        return out
    needs_memory = needs_memory or held[0].is_in_unusual_layout
    shape = SavedShape(held[0].metadata, needs_memory)
    attempt = _Attempt(nodes, shape, _others(call))
    held[0].decide(lambda _: shape)
    for undecided in held[1:]:
        undecided.decide(save_other or mode.save)
    if shape.needs_memory or (_asked_for_memory and attempt.description in _asked_for_memory):
        shape.needs_memory = True
        return out
    with saved_tensors_hooks(lambda _: attempt, _hand_over):
        result = _Backward.apply((result,), *inputs)
    return (result, *out[1:]) if isinstance(out, tuple) else result


class _Undecided:
    """A saved tensor, until its function has returned and shows what it is saved for."""

    __slots__ = ("_saved", "_tensor")

    def __init__(self, tensor: Tensor) -> None:
        self._tensor: Tensor | None = tensor
        self._saved: SavedTensor | None = None

    @property
    def metadata(self) -> TensorMetadata:
        assert self._tensor is not None
        return TensorMetadata.of(self._tensor)

    @property
    def is_in_unusual_layout(self) -> bool:
        """Whether kernels probably copy it into another layout."""
        tensor = self._tensor
        assert tensor is not None
        if tensor.is_contiguous():
            return False
        # Kernels for volumes and for double precision support the contiguous layout only.
        if tensor.ndim != 4 or tensor.dtype == torch.float64:
            return True
        return not tensor.is_contiguous(memory_format=torch.channels_last)

    def decide(self, save: Callable[[Tensor], SavedTensor]) -> None:
        """Hold `save(tensor)` from now on."""
        assert self._tensor is not None
        self._saved, self._tensor = save(self._tensor), None

    def restore(self) -> Tensor:
        """Return the tensor, or what stands for it."""
        assert self._saved is not None
        return self._saved.restore()


def _others(call: Call) -> Call:
    """Return the call without its input, which nothing must hold."""
    func, args, kwargs = call
    return func, args[1:], {name: a for name, a in kwargs.items() if name != "input"}


def _description(others: Call, image: TensorMetadata) -> Hashable:
    """Return what a kernel is chosen by, but for the sizes of the input, which change with data.

    Where calls are told apart too little, some get a placeholder with memory without need.
    """
    func, args, kwargs = others
    given = [_of_argument(a) for a in (*args, *kwargs.values())]
    return func, tuple(kwargs), tuple(given), image.dtype, image.device.type, _order(image.stride)


def _of_argument(argument: Any) -> Hashable:  # Any: an argument of any function
    if not isinstance(argument, Tensor):
        return repr(argument)
    order = _order(argument.stride())
    return argument.dtype, tuple(argument.shape), order, argument.requires_grad


def _order(strides: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(strides)), key=strides.__getitem__))


class _Attempt(NamedTuple):
    """Runs the backward of one function call without memory, then with it.

    Attributes:
        nodes: Of the call.
        shape: Of the input.
        others: The call without its input.
    """

    nodes: Nodes
    shape: SavedShape
    others: Call

    @property
    def description(self) -> Hashable:
        """What is remembered of the call; made only where it is asked for, as it takes time."""
        return _description(self.others, self.shape.metadata)

    def gradients(self, grad: Tensor) -> list[Tensor | None]:
        """Return the gradient of each input."""
        if self.shape.needs_memory or torch.is_grad_enabled():
            return self.nodes.run(grad)
        try:
            return self.nodes.run(grad)
        except RuntimeError:  # mostly the placeholder's own; any other will come again
            self.shape.needs_memory = True
        found = self.nodes.run(grad)
        if len(_asked_for_memory) >= MAX_REMEMBERED:
            _asked_for_memory.clear()
        _asked_for_memory.add(self.description)
        return found


class _Backward(torch.autograd.Function):
    """Stands in the graph for the nodes of a function, and runs them as `_Attempt` does."""

    @staticmethod
    def forward(  # Any: the context is torch's own, as in `backward`
        ctx: Any, result: tuple[Tensor], *inputs: Any
    ) -> Tensor:
        """Return the function's result, without the graph of the function's own."""
        ctx.save_for_backward(result[0].new_empty(0))  # hooks hold the attempt in its place
        ctx.set_materialize_grads(False)
        ctx.input_count = len(inputs)
        return result[0].detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        """Return the gradients of the inputs."""
        if grad is None:  # then torch's own functions return no gradient either
            count: int = ctx.input_count
            return (None,) * (1 + count)
        _ = ctx.saved_tensors  # freed, or kept, as autograd frees what is saved
        attempt: _Attempt = _handed_over.attempt
        _handed_over.attempt = None
        return None, *attempt.gradients(grad)


_handed_over = threading.local()
"""A hook on saved tensors returns tensors only: the attempt goes to `backward` through here."""


def _hand_over(attempt: _Attempt) -> Tensor:
    _handed_over.attempt = attempt
    return torch.empty(0, device="cpu")
