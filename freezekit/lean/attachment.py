"""How a model carries lean: attributes of its modules' instances that replace their `forward`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode, _pop_mode_temporarily
from torch.utils._pytree import tree_leaves

from freezekit.lean.compiled.marker import mark
from freezekit.lean.compiled.watching import watch_compilations
from freezekit.lean.mode import LeanMode, needs_grad
from freezekit.lean.native.core import core_in_use, native_core, prepare_core
from freezekit.lean.rules.table import RULES

if TYPE_CHECKING:
    from collections.abc import Callable

_PLAIN = frozenset({Tensor, nn.Parameter})

FAST_PATH_LAYERS = nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerEncoder


class Lean:
    """What makes a model lean, and what suspends lean in some of its layers.

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
        layers = [m for m in model.modules() if isinstance(m, FAST_PATH_LAYERS) and m is not model]
        self._replacements = [LeanForward(model), *map(FastPathForward, layers)]

    @property
    def description(self) -> str:
        """What it does to the model, for a report."""
        device = _device_of(self._replacements[0].module)
        return f"autograd keeps only what gradients need ({core_in_use(device)})"

    @property
    def recomputed(self) -> tuple[str, ...]:
        """Names of the modules that are computed again as a whole."""
        return ()

    @property
    def more_flops(self) -> float:
        """The FLOPs of these modules, as a fraction of those of a step."""
        return 0.0

    def attach(self) -> None:
        """Replace the forwards, and build the native core where it is to run and is not there."""
        model = self._replacements[0].module
        if _has_plain_tensors(model):
            prepare_core(_device_of(model))
        for replacement in self._replacements:
            replacement.attach()

    def detach(self) -> None:
        """Restore the forwards; a wrapper that somebody has put around one stays in place."""
        for replacement in self._replacements:
            replacement.detach()


class ForwardReplacement(ABC):
    """Replaces one module's `forward`.

    It is an attribute of the instance, not a hook, a subclass or another module. So keys of the
    state dict, types and hooks stay as they are, and deepcopy and pickle copy it along.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.previous: Any = module.__dict__.get("forward")  # Any: whatever somebody put there
        self.is_active: bool = False

    @abstractmethod
    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # Any: whatever the module takes
        """Do what the module's forward does."""

    def attach(self) -> None:
        """Replace the module's forward."""
        self.module.__dict__["forward"] = self
        self.module.__dict__["_replicate_for_data_parallel"] = self.replicate
        self.is_active = True

    def detach(self) -> None:
        """Restore the module; a wrapper that somebody has put around this one stays in place."""
        self.is_active = False
        attributes = self.module.__dict__
        attributes.pop("_replicate_for_data_parallel", None)
        if attributes.get("forward") is not self:
            return
        del attributes["forward"]
        if self.previous is not None:
            attributes["forward"] = self.previous

    def replicate(self) -> nn.Module:
        """Copy the module as `DataParallel` does: a replica must not run the original's forward."""
        replica: nn.Module = type(self.module)._replicate_for_data_parallel(self.module)
        replacement = type(self)(replica)
        replacement.previous = self.previous
        replacement.attach()
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
        if self.previous is not None:
            return self.previous  # type: ignore[no-any-return]  # what somebody put there
        return partial(type(self.module).forward, self.module)


class LeanForward(ForwardReplacement):
    """Runs a model's forward so that autograd saves less."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Do what the model's forward does; only what autograd saves differs."""
        if self.is_active and torch.compiler.is_compiling():
            args, kwargs = mark(args, kwargs)
            return self._forward(*args, **kwargs)
        if not self.is_active or must_not_act():
            return self._forward(*args, **kwargs)
        watch_compilations()
        core = native_core(_device_of(self.module))
        if core is None or not _has_plain_tensors(self.module, args, kwargs):
            with LeanMode(RULES):
                return self._forward(*args, **kwargs)
        return core.run(self._forward, args, kwargs)


class FastPathForward(ForwardReplacement):
    """Suspends lean while a layer runs that needs no gradient at all.

    Such a layer saves nothing. PyTorch then runs a fast path whose results differ slightly from
    those of the slow path, but never under a torch function mode. With lean suspended the layer
    takes the fast path, as it does in the stock model.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Do what the layer's forward does, on the fast path where the stock model takes it."""
        is_lean = not must_not_act() and isinstance(_get_current_function_mode(), LeanMode)
        if not is_lean or self._needs_grad(args, kwargs):
            return self._forward(*args, **kwargs)
        with _pop_mode_temporarily():
            return self._forward(*args, **kwargs)

    def _needs_grad(self, *arguments: Any) -> bool:
        return any(map(needs_grad, [*tree_leaves(arguments), *self.module.parameters()]))


def _has_plain_tensors(model: nn.Module, *arguments: Any) -> bool:  # Any: as above
    """Tell whether there are no fake tensors, nor others of a class of their own.

    The native core has no rules for these; the one in Python has.
    """
    given = [*tree_leaves(arguments), next(model.parameters(), None)]
    return all(type(each) in _PLAIN for each in given if isinstance(each, Tensor))


def _device_of(model: nn.Module) -> str:
    parameter = next(model.parameters(), None)
    return "cpu" if parameter is None else parameter.device.type


def must_not_act() -> bool:
    """Tell whether nothing will be saved, or somebody else decides what is saved.

    Without gradients nothing is saved. `torch.compile` decides for itself what to save.
    `torch.func`, forward-mode differentiation and tracers must see the model as it is.
    """
    return (
        not torch.is_grad_enabled()
        or torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch.autograd.forward_ad._current_level >= 0
    )
