"""Notes what each module of a model does in one forward on fake tensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, Self

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.modules.batchnorm import _NormBase
from torch.utils._pytree import tree_leaves

from freezekit.budget.segments import is_like_the_first
from freezekit.lean.attachment import ForwardReplacement

if TYPE_CHECKING:
    from torch.utils.flop_counter import FlopCounterMode

    from freezekit.memory.tracker import StorageTracker


@dataclass
class Call:
    """One call of a module. Storages have the numbers of the tracker, in the order of birth.

    Attributes:
        name: Of the module.
        outer: Name of the module that called it; "" is the model.
        begin: Storages seen before the call.
        end: Storages seen after it.
        inputs: Bytes of its arguments, by storage.
        outputs: Storages of its results.
        saved: What stock autograd saves in it, by storage.
        flops: Up to the last tensor that is saved; what follows is not computed again.
        written_bytes: Likewise, of new storages.
        is_repeatable: Whether nothing shows that a second run would differ from the first.
    """

    name: str
    outer: str
    begin: int
    end: int = 0
    inputs: dict[int, int] = field(default_factory=dict)
    outputs: frozenset[int] = frozenset()
    saved: dict[int, int] = field(default_factory=dict)
    flops: int = 0
    written_bytes: int = 0
    is_repeatable: bool = True


class CallRecorder:
    """Records the calls of modules within a `with` block.

    Attributes:
        calls: By name, of modules that were called once; in the order of their beginning.
    """

    def __init__(
        self, model: nn.Module, tracker: StorageTracker, counter: FlopCounterMode, *, stock: bool
    ) -> None:
        """Record.

        Args:
            model: On fake tensors.
            tracker: Active.
            counter: Likewise.
            stock: Run as stock PyTorch does, and find out what it saves and which modules can run
                again. Nothing is held for the backward pass then.
        """
        self.calls: dict[str, Call] = {}
        self._tracker, self._counter, self._stock = tracker, counter, stock
        self._running: list[tuple[Call, int, int]] = []
        self._given: list[tuple[Call, Tensor, int]] = []
        self._repeated: set[str] = set()
        self._hooks = saved_tensors_hooks(self._saves, self._nothing)
        self._replacements = [
            _Recorded(module, name, self) for name, module in model.named_modules() if name
        ]

    def __enter__(self) -> Self:
        for each in self._replacements:
            each.attach()
        if self._stock:  # lean does not act within hooks of others
            self._hooks.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._stock:
            self._hooks.__exit__(*exception)
        for each in self._replacements:
            each.detach()
        for call, tensor, version in self._given:
            call.is_repeatable &= tensor._version == version
        self._given.clear()
        for name in self._repeated:
            del self.calls[name]

    def begin(self, module: nn.Module, name: str, args: tuple[Any, ...], kwargs: Any) -> Call:
        """Note that a call begins."""
        if name in self.calls:
            self._repeated.add(name)
        tensors = _tensors((args, kwargs))
        outer = self._running[-1][0].name if self._running else ""
        call = self.calls[name] = Call(name, outer, self._tracker.born)
        for tensor in tensors:
            call.inputs |= dict.fromkeys(
                self._tracker.numbers_of([tensor]), tensor.untyped_storage().nbytes()
            )
        if self._stock:
            call.is_repeatable = is_like_the_first(module, args, kwargs)
            self._given += [(call, tensor, tensor._version) for tensor in tensors]
        self._running.append((call, self._counter.get_total_flops(), self._tracker.allocated_bytes))
        return call

    def end(self, call: Call, out: Any) -> None:
        """Note that a call has ended."""
        self._running.pop()
        call.end = self._tracker.born
        call.outputs = frozenset(self._tracker.numbers_of(_tensors(out)))

    def _nothing(self, _: object) -> NoReturn:
        raise AssertionError("a forward that is only observed has no backward pass")

    def _saves(self, tensor: Tensor) -> Any:
        numbers = self._tracker.numbers_of([tensor])
        flops, written = self._counter.get_total_flops(), self._tracker.allocated_bytes
        for call, flops_before, written_before in self._running:
            call.flops, call.written_bytes = flops - flops_before, written - written_before
            for number in numbers:
                if number >= call.begin:
                    call.saved[number] = tensor.untyped_storage().nbytes()


class _Recorded(ForwardReplacement):
    """Tells a recorder of the calls of one module."""

    def __init__(self, module: nn.Module, name: str, recorder: CallRecorder) -> None:
        super().__init__(module)
        self._name, self._recorder = name, recorder

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call = self._recorder.begin(self.module, self._name, args, kwargs)
        before = _state(self.module)
        out = self._forward(*args, **kwargs)
        call.is_repeatable &= _is_same(before, _state(self.module))
        self._recorder.end(call, out)
        return out


def _tensors(nest: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(nest) if isinstance(leaf, Tensor)]


def _state(module: nn.Module) -> list[Any]:
    """Return what a module and those inside it keep, apart from statistics of norms."""
    found: list[Any] = []
    for inner in module.modules():
        found += vars(inner).values()
        if not isinstance(inner, _NormBase):
            found += [b._version for b in inner._buffers.values() if b is not None]
    return found


def _is_same(before: list[Any], after: list[Any]) -> bool:
    return len(before) == len(after) and all(
        a is b or (isinstance(a, int) and a == b) for a, b in zip(before, after, strict=True)
    )
