"""The plan of a phase, with what the optimizer holds from the phases before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from freezekit.freezing.plan import FreezePlan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn


@dataclass(frozen=True)
class PhasePlan:
    """What is measured of a phase.

    It travels to the measuring processes as data, and not as the text of the schedule. So a model
    is observed and a schedule is asked once, and all processes measure the same plan.

    Attributes:
        plan: What is frozen.
        trained_before: Names of the parameters that the plan freezes and an earlier phase trained.
            The optimizer keeps their state.
    """

    plan: FreezePlan
    trained_before: frozenset[str] = frozenset()

    def as_data(self) -> dict[str, Any]:  # Any: JSON
        """Return it as JSON data."""
        return {"plan": self.plan.to_json(), "trained_before": sorted(self.trained_before)}

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> PhasePlan:  # Any: JSON
        """Return what `as_data` made.

        Example:
            >>> one = PhasePlan(FreezePlan(["a"]), frozenset(["a"]))
            >>> PhasePlan.from_data(one.as_data()) == one
            True
        """
        plan = FreezePlan.from_json(data["plan"])
        return PhasePlan(plan, frozenset(data["trained_before"]))


Measured = str | FreezePlan | PhasePlan
"""What a session is prepared for: a spec, its plan, or a phase."""


def hold_state(model: nn.Module, optimizer: torch.optim.Optimizer, names: frozenset[str]) -> None:
    """Let an optimizer hold the state of parameters that are frozen by now.

    It gets them as a group of their own, and makes their state in a step with gradients of 0. Like
    the moments of a real training, the state stays, because frozen parameters have no gradient.
    """
    held = [parameter for name, parameter in model.named_parameters() if name in names]
    if not held:
        return
    optimizer.add_param_group({"params": held, "weight_decay": 0.0})
    for parameter in held:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for parameter in held:
        parameter.grad = None
