"""What the state dict of a followed schedule fits, and the weights that a schedule keeps."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from freezekit.errors import ScheduleError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from freezekit.backbone.view import Backbone

VERSION = 1
"""Of the state dict."""


def digest(backbone: Backbone) -> str:
    """Return a digest of names and shapes: a state fits a model of the same."""
    shapes = [(name, info.shape) for name, info in backbone.parameters.items()]
    return hashlib.sha256(repr(shapes).encode()).hexdigest()[:16]


def check_state(
    state: Mapping[str, Any],  # Any: what torch.save holds
    schedule: str,
    model_digest: str,
) -> None:
    """Refuse a state that is not of this schedule and this model.

    Raises:
        ScheduleError: It is not.
    """
    version = state.get("version") if isinstance(state, dict) else None
    if version != VERSION:
        raise ScheduleError(
            f"the state is no state of a followed schedule of version {VERSION}, got "
            f"{type(state).__name__} with version {version!r}; give what state_dict() returned"
        )
    if state["schedule"] != schedule:
        raise ScheduleError(
            f"the state is of the schedule {state['schedule']!r}, and this training follows "
            f"{schedule!r}; follow the same schedule with the same options"
        )
    if state["model"] != model_digest:
        raise ScheduleError(
            "the state is of a model with other parameters; build the same model, and freeze it, "
            "before the state is loaded"
        )


def kept_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of all tensors in the state dict of a model."""
    state = model.state_dict().items()
    return {name: value.detach().clone() for name, value in state if isinstance(value, Tensor)}


def restore_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Write kept weights into the tensors of a model."""
    state = model.state_dict()
    with torch.no_grad():
        for name, value in weights.items():
            state[name].copy_(value)
