"""How a model carries lean: attributes of instances that stand in for their forward."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import nn
from torch.overrides import _get_current_function_mode, _pop_mode_temporarily
from torch.utils._pytree import tree_leaves

from freezekit.lean.mode import LeanMode, needs_grad
from freezekit.lean.rules.table import RULES

if TYPE_CHECKING:
    from collections.abc import Callable

HAVE_FAST_PATHS = nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerEncoder


class Lean:
    """What makes a model lean, and what is put aside for it in its layers.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2))
        >>> lean = Lean(model)
        >>> lean.attach()
        >>> "forward" in vars(model)
        True
        >>> lean.detach()
        >>> "forward" in vars(model)
        False
    """

    def __init__(self, model: nn.Module) -> None:
        layers = [m for m in model.modules() if isinstance(m, HAVE_FAST_PATHS) and m is not model]
        self._stand_ins = [LeanForward(model), *map(AsideForward, layers)]

    def attach(self) -> None:
        """Put the stand-ins in place."""
        for stand_in in self._stand_ins:
            stand_in.attach()

    def detach(self) -> None:
        """Leave the model as it was; what somebody has put around a stand-in stays there."""
        for stand_in in self._stand_ins:
            stand_in.detach()


class _StandIn(ABC):
    """Stands in for one module's `forward`.

    An attribute of the instance, not a hook, a subclass or a swapped module: keys of the state
    dict, types and hooks stay, and deepcopy and pickle carry it along.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.before = module.__dict__.get("forward")  # somebody's own
        self.in_force = False

    @abstractmethod
    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # Any: whatever the module takes
        """Do what the module's forward does."""

    def attach(self) -> None:
        """Put the stand-in in place."""
        self.module.__dict__["forward"] = self
        self.module.__dict__["_replicate_for_data_parallel"] = self.replicate
        self.in_force = True

    def detach(self) -> None:
        """Leave the module as it was; what somebody has put around the stand-in stays there."""
        self.in_force = False
        held = self.module.__dict__
        held.pop("_replicate_for_data_parallel", None)
        if held.get("forward") is not self:
            return
        del held["forward"]
        if self.before is not None:
            held["forward"] = self.before

    def replicate(self) -> nn.Module:
        """Copy the module as `DataParallel` does: a replica must not run the original's forward."""
        replica: nn.Module = type(self.module)._replicate_for_data_parallel(self.module)
        stand_in = type(self)(replica)
        stand_in.before = self.before
        stand_in.attach()
        return replica

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"the forward of a lean model has no attribute {name!r}: to export or script it, first "
            "call undo() on the handle that freeze_() returned"
        )

    @property
    def __wrapped__(self) -> Callable[..., Any]:  # Any: whatever the module returns
        """The module's own forward, for `inspect.signature`."""
        return self._forward

    @property
    def _forward(self) -> Callable[..., Any]:
        if self.before is not None:
            return self.before  # type: ignore[no-any-return]  # what somebody put there
        return partial(type(self.module).forward, self.module)


class LeanForward(_StandIn):
    """Runs a model's forward so that autograd keeps less."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Do what the model's forward does; only what autograd keeps is different."""
        if not self.in_force or stands_down():
            return self._forward(*args, **kwargs)
        with LeanMode(RULES):
            return self._forward(*args, **kwargs)


class AsideForward(_StandIn):
    """Puts lean aside where a layer needs no gradient at all.

    There it has nothing to save, and PyTorch takes a fast path of slightly other numbers, though
    under no torch function mode.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Do what the layer's forward does, fast path and all."""
        lean = not stands_down() and isinstance(_get_current_function_mode(), LeanMode)
        if not lean or self._needs_grad(args, kwargs):
            return self._forward(*args, **kwargs)
        with _pop_mode_temporarily():
            return self._forward(*args, **kwargs)

    def _needs_grad(self, *given: Any) -> bool:
        return any(map(needs_grad, [*tree_leaves(given), *self.module.parameters()]))


def stands_down() -> bool:
    """Tell whether there is nothing to keep, or somebody else decides what is kept.

    Without gradients nothing is saved. `torch.compile` decides on its own what to keep, and
    `torch.func`, forward-mode differentiation and tracers see the model as it is.
    """
    return (
        not torch.is_grad_enabled()
        or torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch.autograd.forward_ad._current_level >= 0
    )
