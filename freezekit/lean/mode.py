"""Watches the torch functions that a forward calls, and has autograd keep less for some of them."""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode

from freezekit.lean.deferred_packing import Settling
from freezekit.lean.saved_tensors import Derived, Form, Kept, Recomputed, Whole, restore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

LEAST_BYTES = 1 << 12  # below, a tensor is not worth the microseconds
MOST_CALLS = 8  # to compute an activation again: chains of cheap functions must not grow
_KNOWN_TYPES = frozenset({Tensor, torch.nn.Parameter, torch._subclasses.FakeTensor})

_DATA: Any = Tensor.data

Call = tuple[Any, tuple[Any, ...], dict[str, Any]]  # Any: torch's own protocol, here and below


class LeanMode(TorchFunctionMode):
    """Active during one forward of a lean model.

    The model's own functions run as they are, and so do their backward kernels; what changes is
    what autograd holds in between. A function that has a rule runs by it: hooks on its saved
    tensors return something smaller (`freezekit.lean.saved_tensors`).

    Two things are known only as the forward goes on, and are followed here: when an activation of
    which a bit per element would do has died (`settling`), and how an activation can be computed
    again from what is kept (`derive`): then its consumers, whatever they are, do not keep it.
    """

    def __init__(self, rules: Mapping[Any, Callable[[LeanMode, Call], Any]]) -> None:
        super().__init__()
        self._rules = rules
        self._derived: dict[int, tuple[weakref.ref[Tensor], int, Derived]] = {}
        self.settling = Settling()

    def __exit__(self, *exception: object) -> None:
        """Pack what can be packed, and forget the tensors."""
        super().__exit__(*exception)  # type: ignore[no-untyped-call]  # untyped in torch
        self.settling.finish()
        self._derived.clear()

    def __torch_function__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run the function, by its rule if it has one."""
        kwargs = kwargs or {}
        if torch.compiler.is_compiling():  # a part of the model: it decides itself what it keeps
            return func(*args, **kwargs)
        if self.settling.died:
            self.settling.settle()
        rule = self._rules.get(func)
        if rule is None and not self._takes_derived(func, args):
            return func(*args, **kwargs)
        if not _may_hook():
            return func(*args, **kwargs)
        call = func, args, kwargs
        return self.run(call) if rule is None else rule(self, call)

    # --- for rules -------------------------------------------------------------------------------

    def run(self, call: Call, keep: Callable[[Tensor], Kept] | None = None) -> Any:
        """Run the function; autograd holds what `keep` makes of each tensor that it would save."""
        func, args, kwargs = call
        hook = _Hook(keep or self.keep)
        with saved_tensors_hooks(hook, restore):
            out = func(*args, **kwargs)
        hook.keep = None
        if self._derived and isinstance(out, Tensor) and out._is_view():
            self._pass_on(out)
        return out

    def keep(self, tensor: Tensor) -> Kept:
        """Keep a tensor by what it derives from, or whole."""
        known = self._derived.get(id(tensor))
        view = None
        if known is None and self._derived and _is_placed(tensor):
            known = self._derived.get(id(tensor._base))
            view = _placed(tensor)
        if known is None or known[1] != tensor._version or not tensor.requires_grad:
            return Whole(tensor)  # of a detached one, stock lets go of what it was made from
        return Recomputed(known[2], view)

    def derive(self, out: Any, function: Callable[..., Tensor], *args: Any, **kwargs: Any) -> None:
        """Remember how an activation can be computed again; arguments as in `Derived`."""
        if isinstance(out, Tensor) and out.requires_grad and is_strided(out) and not out._is_view():
            derived = Derived(Form.of(out), function, args, kwargs)
            if derived.calls <= MOST_CALLS:
                self._remember(out, derived)

    def derivation(self, tensor: Tensor) -> Derived | None:
        """Return how an activation can be computed again, None where that is not known."""
        known = self._derived.get(id(tensor))
        return known[2] if known and known[1] == tensor._version else None

    # --- bookkeeping -----------------------------------------------------------------------------

    def _takes_derived(self, func: Any, args: tuple[Any, ...]) -> bool:
        if not self._derived:
            return False
        if func.__name__ in ("__get__", "__set__"):  # an attribute, such as the shape
            if func.__self__ is _DATA:  # a way to change values that no version tells
                self._forget(args[0])
            return False
        return any(id(arg) in self._derived for arg in args)

    def _remember(self, tensor: Tensor, derived: Derived) -> None:
        key, known = id(tensor), self._derived
        known[key] = weakref.ref(tensor, partial(_forget, known, key)), tensor._version, derived

    def _forget(self, tensor: Tensor) -> None:
        base = id(tensor._base) if tensor._is_view() else id(tensor)
        for key in [k for k, (seen, *_) in self._derived.items() if _base_of(seen()) == base]:
            del self._derived[key]

    def _pass_on(self, view: Tensor) -> None:
        known = self._derived.get(id(view._base)) if _is_placed(view) else None
        if known is not None and known[1] == view._version:
            placed = Recomputed(known[2]), *_placed(view)
            self._remember(view, Derived(Form.of(view), torch.as_strided, placed))


class _Hook:
    """A hook on saved tensors that can be emptied: autograd holds it as long as the graph."""

    __slots__ = ("keep",)

    def __init__(self, keep: Callable[[Tensor], Kept]) -> None:
        self.keep: Callable[[Tensor], Kept] | None = keep

    def __call__(self, tensor: Tensor) -> Kept:
        assert self.keep is not None
        return self.keep(tensor)


def _is_placed(tensor: Tensor) -> bool:
    """Tell whether a tensor is a view that shows its base's own values, not parts or conjugates."""
    if not tensor._is_view() or not is_strided(tensor):
        return False
    assert tensor._base is not None
    kind = tensor.dtype, tensor.is_conj(), tensor.is_neg()
    return kind == (tensor._base.dtype, tensor._base.is_conj(), tensor._base.is_neg())


def _base_of(tensor: Tensor | None) -> int | None:
    return None if tensor is None else id(tensor._base if tensor._is_view() else tensor)


def _placed(view: Tensor) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Return where a view lies in its base's storage, as `as_strided` takes it."""
    return tuple(view.shape), view.stride(), int(view.storage_offset())


def _forget(known: dict[int, Any], key: int, _: object) -> None:
    known.pop(key, None)


def _may_hook() -> bool:
    """Tell whether nobody else has hooks on saved tensors, as checkpointing has.

    Nor differentiates forward, of which what lean runs knows nothing.
    """
    autograd: Any = torch._C._autograd  # its stubs lack some
    return (
        torch.is_grad_enabled()
        and torch.autograd.forward_ad._current_level < 0
        and autograd._saved_tensors_hooks_is_enabled()
        and autograd._top_saved_tensors_default_hooks(True) is None
    )


def is_worth_it(tensor: Any) -> bool:
    """Tell whether a rule should apply to this input: a plain tensor, and not a tiny one."""
    return type(tensor) in _KNOWN_TYPES and is_strided(tensor) and tensor.nbytes >= LEAST_BYTES


def is_strided(tensor: Tensor) -> bool:
    """Tell whether a tensor is an ordinary one, neither sparse nor nested."""
    return tensor.layout is torch.strided and not tensor.is_nested


def arguments(call: Call, *names: str) -> dict[str, Any]:
    """Return a function's arguments by name, given the order of its positional ones."""
    _, args, kwargs = call
    return {**dict(zip(names, args, strict=False)), **kwargs}


def plain(call: Call) -> Any:
    """Run the function as it is."""
    func, args, kwargs = call
    return func(*args, **kwargs)


def needs_grad(tensor: Any) -> bool:
    """Tell whether a tensor, if it is one, is part of the graph."""
    return isinstance(tensor, Tensor) and tensor.requires_grad
