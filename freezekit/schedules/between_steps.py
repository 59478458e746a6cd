"""A live training is changed between two steps only, never inside a forward or backward pass."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import torch
from torch import nn

from freezekit.errors import FreezeError

if TYPE_CHECKING:
    from types import FrameType

_CALL = nn.Module._wrapped_call_impl.__code__
_NO_BACKWARD = -1


def check_between_steps(model: nn.Module) -> None:
    """Refuse a change inside a forward pass of the model, or inside any backward pass.

    Raises:
        FreezeError: It is called there, for example by a hook.
    """
    advice = "call it between optimizer.step() and the next forward"
    if torch._C._current_graph_task_id() != _NO_BACKWARD:
        raise FreezeError(f"the plan cannot change inside a backward pass; {advice}")
    modules = {id(module) for module in model.modules()}
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code is _CALL and id(frame.f_locals.get("self")) in modules:
            raise FreezeError(
                f"the plan cannot change inside the forward of {type(model).__name__}; {advice}"
            )
        frame = frame.f_back
