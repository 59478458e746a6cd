"""The state dict of a followed schedule, and the weights that a schedule keeps."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import torch
from torch import Tensor, nn

from freezekit.errors import PlanError, ScheduleError
from freezekit.freezing.plan import FreezePlan
from freezekit.spec.progress import Data  # noqa: TC001  # msgspec reads types

if TYPE_CHECKING:
    from collections.abc import Mapping

    from freezekit.backbone.view import Backbone

VERSION = 1
"""Of the state dict."""
Count = Annotated[int, msgspec.Meta(ge=0)]


class SavedState(msgspec.Struct, frozen=True, kw_only=True):
    """The state dict of a followed schedule, checked.

    Attributes:
        plan: In force, as JSON.
        waiting: A plan that waits for the end of an accumulation, as JSON, or None.
        given: The plan as the schedule gave it last, if it was text.
        rates: Factors in force, by the name of a stage.
        asked_rates: Factors that the schedule asked for last.
        multipliers: Of the groups of the optimizer, by their index.
        step: Of `Progress`, as the four after it.
        state: Of the schedule, as JSON.
        stepped: Steps of the optimizer since the last `step()`.
        is_between_steps: Whether no gradients wait.
        observer: What was observed, with tensors.
        weights: Weights that the schedule kept, or None.
    """

    plan: str
    waiting: str | None
    given: str | None
    rates: dict[str, float]
    asked_rates: dict[str, float]
    multipliers: dict[int, float]
    step: Count
    epoch: Count
    step_in_epoch: Count
    epochs: Annotated[float, msgspec.Meta(gt=0)] | None
    steps_per_epoch: Count | None
    state: str
    stepped: Count
    is_between_steps: bool
    observer: Any
    weights: Any

    @property
    def decoded_state(self) -> dict[str, Data]:
        """The state of the schedule."""
        found: dict[str, Data] = json.loads(self.state)
        return found


def read_state(state: Mapping[str, Any]) -> SavedState:  # Any: what torch.save holds
    """Return a state dict, checked.

    Raises:
        ScheduleError: It is damaged.
    """
    try:
        saved = msgspec.convert(dict(state), SavedState)
        FreezePlan.from_json(saved.plan)
        if saved.waiting is not None:
            FreezePlan.from_json(saved.waiting)
        if not isinstance(saved.decoded_state, dict):
            raise ValueError("its own state is no mapping")
    except (ValueError, KeyError, TypeError, PlanError) as error:  # of msgspec and json too
        raise ScheduleError(f"the state is damaged: {error}; take another checkpoint") from error
    return saved


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
