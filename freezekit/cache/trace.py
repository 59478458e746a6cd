"""One forward of training, recorded: which operator takes what from which, and which module ran it.

On fake tensors it takes no memory. What a plan can skip is read from the record, for many plans.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from freezekit.cache.calls import Call, intercepted
from freezekit.model.flops import RECURRENT
from freezekit.model.nested import tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

# Any in this file: a module may take and return anything, an operator too.

Number = int
"""Of a storage, in the order in which they were seen."""
Unsteady = Literal["", "random", "statistics", "batch"]
"""What but its input an operator depends on, or changes: random numbers, running statistics, or the
other samples of the batch."""

_MADE = ("empty", "zeros", "ones", "full", "rand", "randn")
SHAPES_ALONE = frozenset(
    [*(f"{name}_like" for name in _MADE), *(f"new_{name}" for name in _MADE), "new_empty_strided"]
)
"""Operators that take the shape of their input and not its values."""


class Op(NamedTuple):
    """One operator.

    Attributes:
        module: The innermost module that ran it, "" for the model itself.
        reads: The storages that its result depends on.
        writes: The storages of its result, and those that it changes.
        unsteady: See `Unsteady`.
        flops: Floating-point operations.
    """

    module: str
    reads: frozenset[Number]
    writes: frozenset[Number]
    unsteady: Unsteady
    flops: int


class Enter(NamedTuple):
    """A call begins."""

    call: Call
    reads: frozenset[Number]


class Leave(NamedTuple):
    """A call ends. What it returns has storages of its own, by those that it was made of."""

    call: Call
    returned: tuple[tuple[Number, Number], ...]


@dataclass(frozen=True)
class Trace:
    """One forward of training.

    Attributes:
        events: In their order.
        parameters: The storage of each, by name.
        images: The storages of what goes in and would not be there: the images.
        results: The storages of what comes out.
        outputs: What each call returned.
    """

    events: tuple[Op | Enter | Leave, ...]
    parameters: Mapping[str, Number]
    images: frozenset[Number]
    results: frozenset[Number]
    outputs: Mapping[Call, Any] = field(repr=False)

    @property
    def flops(self) -> int:
        """Of the whole forward."""
        return sum(event.flops for event in self.events if isinstance(event, Op))


def is_image(value: object) -> bool:
    """Return whether a value of a batch is what a cache has features in place of."""
    return isinstance(value, Tensor) and value.is_floating_point() and value.dim() >= 3


def traced(model: nn.Module, run: Callable[[Any], Any], batch: Any) -> Trace:
    """Record a forward.

    Args:
        model: In train mode, so that what draws random numbers or changes statistics shows.
        run: Calls it with a batch, as training does.
        batch: What it takes.
    """
    recorder = _Recorder(model)
    images = recorder.numbers(filter(is_image, pytree.tree_leaves(batch)))
    modules = {name: module for name, module in model.named_modules() if name}
    with torch.enable_grad(), recorder, intercepted(modules, recorder.on_call):
        out = run(batch)
    results = recorder.numbers(t for t in tensors(out) if t.is_floating_point())
    return Trace(tuple(recorder.events), recorder.parameters, images, results, recorder.outputs)


class _Recorder(TorchDispatchMode):
    """Records operators, and by `on_call` the calls around them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no type
        self.events: list[Op | Enter | Leave] = []
        self.outputs: dict[Call, Any] = {}
        self._numbers: dict[int, Number] = {}
        self._alive: list[object] = []  # the address of a storage that was freed is used again
        self._inside: list[str] = [""]
        self._paused = False
        self.parameters = {name: self._number(p) for name, p in model.named_parameters()}
        self._buffers = self.numbers(model.buffers())

    def numbers(self, found: Iterable[Any]) -> frozenset[Number]:
        return frozenset(self._number(value) for value in found if isinstance(value, Tensor))

    def on_call(self, call: Call, inner: Callable[[], Any], given: Any) -> Any:
        self.events.append(Enter(call, self.numbers(tensors(given))))
        self._inside.append(call.module)
        try:
            out = inner()
        finally:
            self._inside.pop()
        returned: list[tuple[Number, Number]] = []

        def renewed(tensor: Tensor) -> Tensor:
            new = tensor.clone()
            returned.append((self._number(tensor), self._number(new)))
            return new

        # As a cache does, give tensors that share nothing with others: then a storage tells whose
        # output it is.
        self._paused = True
        try:
            out = pytree.tree_map_only(Tensor, renewed, out)
        finally:
            self._paused = False
        self.outputs[call] = out
        self.events.append(Leave(call, tuple(returned)))
        return out

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] = MappingProxyType({}),
    ) -> Any:
        out = func(*args, **kwargs)
        if self._paused:
            return out
        name = func._schema.name.removeprefix("aten::")
        given = pytree.tree_leaves((args, kwargs))
        changed = self.numbers(
            value
            for argument, value in zip(func._schema.arguments, args, strict=False)
            if argument.alias_info is not None and argument.alias_info.is_write
            for value in pytree.tree_leaves(value)
        )
        reads = frozenset() if name in SHAPES_ALONE else self.numbers(given)
        self.events.append(
            Op(
                self._inside[-1],
                reads,
                self.numbers(pytree.tree_leaves(out)) | changed,
                self._unsteady(func, args, changed),
                _flops(func, args, kwargs, out),
            )
        )
        return out

    def _number(self, tensor: Tensor) -> Number:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._numbers:
            self._numbers[storage._cdata] = len(self._numbers)
            self._alive.append(storage)
        return self._numbers[storage._cdata]

    def _unsteady(self, func: Any, args: Sequence[Any], changed: frozenset[Number]) -> Unsteady:
        if changed & self._buffers:
            return "statistics"
        given = {a.name: value for a, value in zip(func._schema.arguments, args, strict=False)}
        if "running_mean" in given and given.get("training", given.get("train")):
            if given["input"].shape[0] == 1:  # of an instance norm, or of standardised weights
                return ""
            return "batch" if given["running_mean"] is None else "statistics"
        draws = torch.Tag.nondeterministic_seeded in func.tags
        rates = [value for name, value in given.items() if "dropout" in name]
        return "random" if draws and (not rates or any(rates)) else ""


def _flops(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    packet = func._overloadpacket
    if packet in RECURRENT:
        shapes = pytree.tree_map_only(Tensor, lambda t: list(t.shape), args)
        return RECURRENT[packet](*shapes)
    count = flop_registry.get(packet)
    return int(count(*args, **kwargs, out_val=out)) if count else 0
