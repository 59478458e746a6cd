"""A copy of a model in a training that follows a schedule."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from math import isclose
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

from freezekit.backbone.staged import stages_or_reason
from freezekit.backbone.view import view_of_copy
from freezekit.freezing.eval_hold import RECORD
from freezekit.freezing.parameter_groups import group_for_all_phases
from freezekit.freezing.planning import decide
from freezekit.schedules.agreement import has_other_ranks
from freezekit.schedules.change import Training
from freezekit.schedules.followed import FollowedSchedule
from freezekit.spec.progress import Progress
from freezekit.verify.isolation import check_carried, copy_with, digest
from freezekit.verify.records import Check, count
from freezekit.verify.training import (
    CLIP,
    LEARNING_RATE,
    WEIGHT_DECAY,
    TrainedCopy,
    TrainingTask,
    reached_when_thawed,
    train,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from freezekit.backbone.view import Backbone
    from freezekit.model.random_state import RandomState
    from freezekit.plugins.registry import Registry
    from freezekit.spec.schedule import Schedule
    from freezekit.verify.claims import Claims

_ROUNDING = 1e-6
"""Relative; each change of a multiplier rounds the rates once more."""


@dataclass(frozen=True)
class ScheduledRun:
    """What is trained, and for how long.

    Attributes:
        backbone: The view of a frozen model. It is copied, never trained.
        schedule: What the copy follows.
        registry: The strategies that its phases name.
        epochs: Epochs of the training.
        steps_per_epoch: Optimizer steps of an epoch.
        thaw: As in `freeze_`.
    """

    backbone: Backbone
    schedule: Schedule
    registry: Registry
    epochs: int
    steps_per_epoch: int
    thaw: bool = False


class Live:
    """A copy in training by SGD with momentum and weight decay, under ranks in their wrapper.

    Momentum and decay both move a weight that was frozen and kept a gradient. SGD also shows a
    gradient of a wrong size, which Adam would hide.

    The rate falls twice on a cosine: schedules that thaw when it rises do so in the middle.
    """

    def __init__(self, run: ScheduledRun, task: TrainingTask, begin: RandomState) -> None:
        (self.model,) = copy_with(run.backbone.model)
        check_carried(run.backbone.model, self.model)
        self.backbone = view_of_copy(run.backbone, self.model)
        plans = [
            decide(self.backbone, spec, run.registry, thaw=run.thaw)
            for spec in run.schedule.plans()
        ]
        plan = self.model.__dict__[RECORD].plan
        groups = group_for_all_phases(self.backbone, plan, plans, LEARNING_RATE, WEIGHT_DECAY)
        self.optimizer = torch.optim.SGD(groups, LEARNING_RATE, momentum=0.9)
        self.rates = _cosine(self.optimizer, run)
        # What the rates are without multipliers: the same scheduler, of one parameter alone.
        self.plain = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], LEARNING_RATE)
        self.plain_rates = _cosine(self.plain, run)
        self.task, self.begin = task, begin
        self.ddp = self._wrapped() if has_other_ranks() else None
        self.run = FollowedSchedule(
            self.backbone,
            run.schedule,
            Training(self.optimizer, (self.rates,), self.ddp),
            run.registry,
            progress=Progress(epochs=run.epochs, steps_per_epoch=run.steps_per_epoch),
            sample=task.kwargs or task.args,
            thaw=run.thaw,
        )
        stages, _ = stages_or_reason(self.backbone)
        self._stage_of = {name: s.name for s in stages or () for name in s.parameters}
        self._groups = self._held()

    def _wrapped(self) -> DistributedDataParallel:
        """Return the copy in DistributedDataParallel, which by default waits for all gradients."""
        trainable = [n for n, p in self.model.named_parameters() if p.is_floating_point()]
        reached = reached_when_thawed(copy_with(self.model)[0], self.task, trainable)
        has_unused = len(reached) < len(trainable)
        return DistributedDataParallel(self.model, find_unused_parameters=has_unused)

    def step(self, trained: tuple[str, ...]) -> TrainedCopy:
        """Make one optimizer step; `trained` names what should get a gradient."""
        # Each step draws the same random numbers, whatever was drawn by checks before it.
        self.begin.restore()
        done = train(self.model, self.optimizer, self.task, 1, trained, CLIP, through=self.ddp)
        self.plain.step()
        for rates in (self.rates, self.plain_rates):
            rates.step()
        return done

    def state(self) -> dict[str, Any]:  # Any: state dicts
        """Return what a checkpoint holds."""
        return copy.deepcopy({name: part.state_dict() for name, part in self._parts().items()})

    def load(self, state: Mapping[str, Any]) -> None:  # Any: as above
        """Go on from a checkpoint."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def bits(self) -> dict[str, bytes]:
        """Return a digest of each parameter and buffer."""
        tensors = (*self.model.named_parameters(), *self.model.named_buffers())
        return {name: digest(tensor)[0] for name, tensor in tensors}

    def learning_rates(self, claims: Claims) -> Check:
        """Compare each rate with that of a training without multipliers, times the multipliers.

        These are the plan's, and the factors that the schedule gives to stages. The factors may
        change in each step without a new plan.
        """
        factors: Mapping[str, float] = self.run.state_dict()["rates"]
        (plain,) = self.plain.param_groups
        names = {id(p): name for name, p in self.model.named_parameters()}
        off = []
        for group in self.optimizer.param_groups:
            for name in (names[id(parameter)] for parameter in group["params"]):
                wanted = plain["lr"] * claims.lr_scales.get(name, 1.0)
                wanted *= factors.get(self._stage_of.get(name, ""), 1.0)
                if name in claims.trained and not isclose(group["lr"], wanted, rel_tol=_ROUNDING):
                    off.append(name)
        if off:
            detail = (
                f"the rates of {len(off)} of {count(len(claims.trained), 'trained parameter')} are "
                "not those of a training without multipliers, times the multipliers"
            )
        else:
            detail = f"{count(len(claims.trained), 'trained parameter')} with the rate decided"
        return Check("learning-rates", not off, detail, tuple(off))

    def one_optimizer(self) -> Check:
        """Check that the groups of the optimizer hold the same parameters as at the beginning."""
        same = self._groups == self._held()
        groups = count(len(self._groups), "group")
        detail = f"{groups} with {'the same' if same else 'other'} parameters in all phases"
        return Check("one-optimizer", same, detail)

    def _held(self) -> list[list[int]]:
        return [[id(p) for p in group["params"]] for group in self.optimizer.param_groups]

    def _parts(self) -> dict[str, Any]:  # Any: torch's classes have no common one
        return {
            "model": self.model,
            "optimizer": self.optimizer,
            "rates": self.rates,
            "schedule": self.run,
        }


def _cosine(optimizer: torch.optim.Optimizer, run: ScheduledRun) -> CosineAnnealingWarmRestarts:
    steps = run.epochs * run.steps_per_epoch
    return CosineAnnealingWarmRestarts(optimizer, max(2, (steps + 1) // 2))
