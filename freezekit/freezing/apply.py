"""Apply a plan to a model, and undo it."""

from __future__ import annotations

from threading import Lock, RLock
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from freezekit.budget import BudgetedLean
from freezekit.errors import FreezeError
from freezekit.freezing.arrival import Arrivals
from freezekit.freezing.eval_hold import RECORD, HeldInEval, Record, arrival_flags, clear
from freezekit.lean import Lean
from freezekit.results.lean_text import budget_bytes

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from torch import nn

    from freezekit.freezing.plan import FreezePlan
    from freezekit.results.lean_text import LeanChoice


_LOCKS: WeakKeyDictionary[nn.Module, RLock] = WeakKeyDictionary()
_GUARD = Lock()


def lock_of(model: nn.Module) -> AbstractContextManager[object]:
    """Return the lock of a model, which `freeze_` and `undo` of that very model take.

    It is kept outside of the model, as a lock can be neither copied nor pickled. A thread that has
    it can take it again.
    """
    with _GUARD:
        return _LOCKS.setdefault(model, RLock())


def apply(model: nn.Module, decided: FreezePlan, *, lean: LeanChoice) -> None:
    """Set the flags, hold modules in eval mode, and record the earlier state for `undo`."""
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    record = model.__dict__[RECORD] = Record(decided, before, arrivals=Arrivals(model))
    _set_flags(model, decided)
    _hold(model, decided)
    if lean:
        budget = budget_bytes(lean)
        record.lean = Lean(model) if budget is None else BudgetedLean(model, budget)
        record.lean.attach()


def exchange(model: nn.Module, decided: FreezePlan) -> None:
    """Put another plan in place of the one in force. Handle, lean and earlier state stay."""
    record: Record = model.__dict__[RECORD]
    _set_flags(model, decided)
    _hold(model, decided)
    record.plan = decided


def _set_flags(model: nn.Module, decided: FreezePlan) -> None:
    for name, parameter in model.named_parameters():
        trained = name not in decided.frozen and can_train(parameter)
        if parameter.requires_grad != trained:
            parameter.requires_grad_(trained)
        if not trained:
            parameter.grad = None


def _hold(model: nn.Module, decided: FreezePlan) -> None:
    wanted = decided.eval_modules or frozenset()
    for name, module in model.named_modules():
        held = module.__dict__.get("train")
        is_held = isinstance(held, HeldInEval)
        if name in wanted and not is_held:
            HeldInEval(module).hold()
        elif name not in wanted and is_held:
            held.release()


def undo(model: nn.Module) -> None:
    """Undo `apply`: restore flags and modes, and remove the record from the model."""
    flags = arrival_flags(model)
    record: Record = model.__dict__.pop(RECORD)
    if record.lean:
        record.lean.detach()
    for module in model.modules():
        held = module.__dict__.get("train")
        if isinstance(held, HeldInEval):
            held.release()
        clear(module)  # of a module whose `train` somebody has removed
    for name, parameter in model.named_parameters():
        if parameter.requires_grad != flags[name] and can_train(parameter):
            parameter.requires_grad_(flags[name])


def check_parts(model: nn.Module) -> None:
    """Refuse a model of which another `freeze_` already controls a part.

    Raises:
        FreezeError: A part was frozen on its own, or a frozen model around this one holds a part.
    """
    own = RECORD in model.__dict__
    for name, module in model.named_modules():
        if name and RECORD in module.__dict__:
            raise FreezeError(
                f"{name!r} inside this {type(model).__name__} was frozen on its own; undo that "
                "first, or freeze the whole model before you wrap it"
            )
        if not own and isinstance(module.__dict__.get("train"), HeldInEval):
            raise FreezeError(
                f"{name or type(model).__name__!r} is held in eval mode by a frozen model around "
                "it; undo that first"
            )


def check_trainable(model: nn.Module) -> None:
    """Refuse parameters that torch would refuse when half of the model is changed.

    Raises:
        FreezeError: A parameter can never be trained.
    """
    for name, parameter in model.named_parameters():
        if parameter.is_inference():
            raise FreezeError(
                f"parameter {name!r} was made under torch.inference_mode() and can never be "
                "trained; build the model outside of that mode"
            )


def can_train(parameter: nn.Parameter) -> bool:
    """Tell whether torch lets a parameter require a gradient: integers cannot."""
    return parameter.is_floating_point() or parameter.is_complex()
