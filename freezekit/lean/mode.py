"""Watches the torch functions that a forward calls, and makes autograd save less for some."""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode

from freezekit.lean.deferred_packing import DeferredPacking
from freezekit.lean.saved_tensors import (
    Recomputation,
    Recomputed,
    SavedAsIs,
    SavedTensor,
    TensorMetadata,
    restore,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

MIN_BYTES = 1 << 12
"""Size below which no rule applies: a smaller tensor is not worth the microseconds of a rule."""

MAX_RECOMPUTED_CALLS = 8
"""Function calls to compute one activation again. Without a limit, a chain of cheap functions would
cost time that grows with the square of its length."""

_ELIGIBLE_TYPES = frozenset({Tensor, torch.nn.Parameter, torch._subclasses.FakeTensor})

_DATA: Any = Tensor.data  # Any: torch's own descriptor

Call = tuple[Any, tuple[Any, ...], dict[str, Any]]
"""A function, its positional and its keyword arguments. Any: torch's protocol, here and below."""


class LeanMode(TorchFunctionMode):
    """Active during one forward of a lean model.

    The model's functions run as they are, and so do their backward kernels. Only what autograd
    holds in between differs. A function that has a rule runs by it: hooks on its saved tensors
    return something smaller (`freezekit.lean.saved_tensors`).

    Two facts become known only as the forward goes on, and the mode keeps track of them. One is the
    death of an activation of which one bit per element is enough (`deferred_packing`). The other is
    how an activation can be computed again from what is saved anyway (`add_recomputation`). No
    consumer of such an activation saves it, whatever function the consumer is.
    """

    def __init__(self, rules: Mapping[Any, Callable[[LeanMode, Call], Any]]) -> None:
        super().__init__()
        self._rules = rules
        self._recomputations: dict[int, tuple[weakref.ref[Tensor], int, Recomputation]] = {}
        self.deferred_packing: DeferredPacking = DeferredPacking()

    def __exit__(self, *exception: object) -> None:
        """Pack what can be packed, and forget the tensors."""
        super().__exit__(*exception)  # type: ignore[no-untyped-call]  # untyped in torch
        self.deferred_packing.finish()
        self._recomputations.clear()

    def __torch_function__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run the function, by its rule if it has one."""
        kwargs = kwargs or {}
        if torch.compiler.is_compiling():  # a compiled part decides for itself what it saves
            return func(*args, **kwargs)
        if self.deferred_packing.died:
            self.deferred_packing.pack_dead()
        rule = self._rules.get(func)
        if rule is None and not self._takes_recomputable(func, args):
            return func(*args, **kwargs)
        if not _can_set_hooks():
            return func(*args, **kwargs)
        call = func, args, kwargs
        return self.run(call) if rule is None else rule(self, call)

    # --- for rules -------------------------------------------------------------------------------

    def run(self, call: Call, save: Callable[[Tensor], SavedTensor] | None = None) -> Any:
        """Run the function; autograd holds `save(tensor)` for each tensor that it would save.

        Args:
            call: The function and its arguments.
            save: From a tensor to what is held in its place; by default `LeanMode.save`.
        """
        func, args, kwargs = call
        hook = _PackHook(save or self.save)
        with saved_tensors_hooks(hook, restore):
            out = func(*args, **kwargs)
        hook.save = None
        if self._recomputations and isinstance(out, Tensor) and out._is_view():
            self._add_view(out)
        return out

    def save(self, tensor: Tensor) -> SavedTensor:
        """Save a tensor by its recomputation where one is known, and as it is otherwise."""
        known = self._recomputations.get(id(tensor))
        view = None
        if known is None and self._recomputations and _shows_values_of_base(tensor):
            known = self._recomputations.get(id(tensor._base))
            view = _geometry(tensor)
        if known is None or known[1] != tensor._version or not tensor.requires_grad:
            # of a detached tensor, stock autograd does not hold what it was computed from
            return SavedAsIs(tensor)
        return Recomputed(known[2], view)

    def add_recomputation(
        self, out: Any, function: Callable[..., Tensor], *args: Any, **kwargs: Any
    ) -> None:
        """Note how an activation can be computed again; arguments as in `Recomputation`."""
        if isinstance(out, Tensor) and out.requires_grad and is_strided(out) and not out._is_view():
            recomputation = Recomputation(TensorMetadata.of(out), function, args, kwargs)
            if recomputation.call_count <= MAX_RECOMPUTED_CALLS:
                self._note(out, recomputation)

    def recomputation_of(self, tensor: Tensor) -> Recomputation | None:
        """Return how an activation can be computed again, None where that is not known."""
        known = self._recomputations.get(id(tensor))
        return known[2] if known and known[1] == tensor._version else None

    # --- bookkeeping -----------------------------------------------------------------------------

    def _takes_recomputable(self, func: Any, args: tuple[Any, ...]) -> bool:
        if not self._recomputations:
            return False
        if func.__name__ in ("__get__", "__set__"):  # an attribute, such as the shape
            if func.__self__ is _DATA:  # values changed through `data` leave the version as it is
                self._forget(args[0])
            return False
        return any(id(arg) in self._recomputations for arg in args)

    def _note(self, tensor: Tensor, recomputation: Recomputation) -> None:
        key, known = id(tensor), self._recomputations
        reference = weakref.ref(tensor, partial(_discard, known, key))
        known[key] = reference, tensor._version, recomputation

    def _forget(self, tensor: Tensor) -> None:
        base = id(tensor._base) if tensor._is_view() else id(tensor)
        for key in [k for k, (ref, *_) in self._recomputations.items() if _base_id(ref()) == base]:
            del self._recomputations[key]

    def _add_view(self, view: Tensor) -> None:
        known = self._recomputations.get(id(view._base)) if _shows_values_of_base(view) else None
        if known is not None and known[1] == view._version:
            args = Recomputed(known[2]), *_geometry(view)
            self._note(view, Recomputation(TensorMetadata.of(view), torch.as_strided, args))


class _PackHook:
    """A hook on saved tensors that can be emptied, as autograd holds it as long as the graph."""

    __slots__ = ("save",)

    def __init__(self, save: Callable[[Tensor], SavedTensor]) -> None:
        self.save: Callable[[Tensor], SavedTensor] | None = save

    def __call__(self, tensor: Tensor) -> SavedTensor:
        assert self.save is not None
        return self.save(tensor)


def _shows_values_of_base(tensor: Tensor) -> bool:
    """Tell whether a tensor is a view of its base's own values, not of parts or conjugates."""
    if not tensor._is_view() or not is_strided(tensor):
        return False
    assert tensor._base is not None
    kind = tensor.dtype, tensor.is_conj(), tensor.is_neg()
    return kind == (tensor._base.dtype, tensor._base.is_conj(), tensor._base.is_neg())


def _base_id(tensor: Tensor | None) -> int | None:
    return None if tensor is None else id(tensor._base if tensor._is_view() else tensor)


def _geometry(view: Tensor) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Return shape, strides and storage offset of a view, as `as_strided` takes them."""
    return tuple(view.shape), view.stride(), int(view.storage_offset())


def _discard(known: dict[int, Any], key: int, _: object) -> None:
    known.pop(key, None)


def _can_set_hooks() -> bool:
    """Tell whether lean may set hooks on saved tensors.

    It may not where somebody else has set such hooks, as checkpointing does, nor in forward-mode
    differentiation, which lean's own functions do not support.
    """
    autograd: Any = torch._C._autograd  # its stubs lack some
    return (
        torch.is_grad_enabled()
        and torch.autograd.forward_ad._current_level < 0
        and autograd._saved_tensors_hooks_is_enabled()
        and autograd._top_saved_tensors_default_hooks(True) is None
    )


def is_eligible(tensor: Any) -> bool:
    """Tell whether a rule may apply to this input: a plain tensor of `MIN_BYTES` or more."""
    return type(tensor) in _ELIGIBLE_TYPES and is_strided(tensor) and tensor.nbytes >= MIN_BYTES


def is_strided(tensor: Tensor) -> bool:
    """Tell whether a tensor is an ordinary one, neither sparse nor nested."""
    return tensor.layout is torch.strided and not tensor.is_nested


def arguments(call: Call, *names: str) -> dict[str, Any]:
    """Return a function's arguments by name.

    Args:
        call: The function and its arguments.
        names: Of the positional arguments, in their order.

    Example:
        >>> arguments((torch.roll, ("image", 1), {"dims": 0}), "input", "shifts", "dims")
        {'input': 'image', 'shifts': 1, 'dims': 0}
    """
    _, args, kwargs = call
    return {**dict(zip(names, args, strict=False)), **kwargs}


def run_as_is(call: Call) -> Any:
    """Run the function as it is."""
    func, args, kwargs = call
    return func(*args, **kwargs)


def needs_grad(tensor: Any) -> bool:
    """Tell whether the argument is a tensor that requires a gradient."""
    return isinstance(tensor, Tensor) and tensor.requires_grad
