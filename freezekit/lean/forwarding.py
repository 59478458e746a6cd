"""How a model carries lean: an attribute of the instance that stands in for its forward."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import torch

from freezekit.lean.mode import LeanMode
from freezekit.lean.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn


class LeanForward:
    """Stands in for one model's `forward` and runs it so that autograd keeps less.

    An attribute of the instance, not a hook, a subclass or a swapped module: keys of the state
    dict, types and hooks stay, and deepcopy and pickle carry it along.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.before = module.__dict__.get("forward")  # somebody's own
        self.in_force = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # Any: whatever the model takes
        """Do what the model's forward does; only what autograd keeps is different."""
        if not self.in_force or stands_down():
            return self._forward(*args, **kwargs)
        with LeanMode(RULES):
            return self._forward(*args, **kwargs)

    def attach(self) -> None:
        """Put the stand-in in place."""
        self.module.__dict__["forward"] = self
        self.module.__dict__["_replicate_for_data_parallel"] = self.replicate
        self.in_force = True

    def detach(self) -> None:
        """Leave the model as it was; what somebody has put around the stand-in stays there."""
        self.in_force = False
        held = self.module.__dict__
        held.pop("_replicate_for_data_parallel", None)
        if held.get("forward") is not self:
            return
        del held["forward"]
        if self.before is not None:
            held["forward"] = self.before

    def replicate(self) -> nn.Module:
        """Copy the model as `DataParallel` does: a replica must not run the original's forward."""
        replica: nn.Module = type(self.module)._replicate_for_data_parallel(self.module)
        stand_in = LeanForward(replica)
        stand_in.before = self.before
        stand_in.attach()
        return replica

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"the forward of a lean model has no attribute {name!r}: to export or script it, first "
            "call undo() on the handle that freeze_() returned"
        )

    @property
    def __wrapped__(self) -> Callable[..., Any]:  # Any: whatever the model returns
        """The model's own forward, for `inspect.signature`."""
        return self._forward

    @property
    def _forward(self) -> Callable[..., Any]:
        if self.before is not None:
            return self.before  # type: ignore[no-any-return]  # what somebody put there
        return partial(type(self.module).forward, self.module)


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
