"""What is looked at in each step of a training, by its bits, without freezekit."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.trainers.task import PHASES, held, model, spec_at

if TYPE_CHECKING:
    from torch import Tensor, nn

    from benchmarks.trainers.task import Task


class Watch:
    """Compares the state before and after each step with what should have been frozen in it.

    Attributes:
        steps: How many were looked at.
        moved: Frozen parameters and buffers that changed, by name.
        still: Parameters that should have been trained and did not change in a step.
    """

    def __init__(self, task: Task, net: nn.Module) -> None:
        self.task, self.net = task, net
        self.steps = 0
        self.moved: set[str] = set()
        self.still: set[str] = set()
        self._before: dict[str, Tensor] = {}
        fresh = model()  # freezekit has not seen it
        self._fixed = {spec: _fixed(fresh, *held(spec)) for _, spec in PHASES[task.freeze]}

    def before(self) -> None:
        """Remember all bits."""
        self._before = {name: each.clone() for name, each in self.net.state_dict().items()}

    def after(self, step: int) -> None:
        """Compare; `step` steps were made in all, in earlier processes too."""
        self.steps += 1
        fixed = self._fixed[spec_at(self.task, step - 1)]
        names = {name for name, _ in self.net.named_parameters()}
        for name, value in self.net.state_dict().items():
            same = torch.equal(value, self._before[name])
            if name in fixed and not same:
                self.moved.add(name)
            if name in names - fixed and same:
                self.still.add(name)
        if step == self.task.killed_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def found(self) -> dict[str, Any]:  # Any: JSON
        """Return what was seen."""
        return {
            "steps": self.steps,
            "frozen_that_moved": sorted(self.moved),
            "trained_that_did_not": sorted(self.still),
        }


def _fixed(net: nn.Module, frozen: frozenset[str], in_eval: frozenset[str]) -> frozenset[str]:
    """Return the frozen parameters, and the buffers of modules in eval mode."""
    buffers = {
        f"{module}.{name}" if module else name
        for module in in_eval
        for name, _ in net.get_submodule(module).named_buffers(recurse=False)
    }
    return frozen | buffers
