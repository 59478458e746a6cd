"""Verification of a schedule: a copy is trained through all phases, and each claim checked."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.parallel import DistributedDataParallel

from freezekit.errors import FreezeError
from freezekit.freezing.parameter_groups import group_for_all_phases
from freezekit.freezing.planning import decide
from freezekit.model.copies import eagerly
from freezekit.model.loss import LossFunction, loss_function
from freezekit.model.nested import shapes_text
from freezekit.model.outside import caches_kept
from freezekit.model.random_state import RandomState, cuda_devices
from freezekit.model.tasks import task_of
from freezekit.schedules.agreement import has_other_ranks
from freezekit.schedules.change import Training
from freezekit.schedules.followed import FollowedSchedule
from freezekit.spec.progress import Progress
from freezekit.verify.checks import fixed_statistics, frozen_weights, gradients, parameter_groups
from freezekit.verify.claims import claims_of_plan
from freezekit.verify.isolation import copy_with, digest, state_preserved
from freezekit.verify.modes import same_in_train_and_eval
from freezekit.verify.ranks import equal_on_all_ranks
from freezekit.verify.records import Check, Verification, count
from freezekit.verify.training import (
    CLIP,
    LEARNING_RATE,
    WEIGHT_DECAY,
    TrainedCopy,
    TrainingTask,
    reached_when_thawed,
    train,
)
from freezekit.verify.undo import undo_restores

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from freezekit.backbone.view import Backbone
    from freezekit.plugins.registry import Registry
    from freezekit.spec.schedule import Schedule


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


class _Live:
    """A copy in training by SGD with momentum and weight decay.

    Momentum and decay both move a weight that was frozen and kept a gradient. SGD also shows a
    gradient of a wrong size, which Adam would hide.
    """

    def __init__(self, run: ScheduledRun, task: TrainingTask, begin: RandomState) -> None:
        self.model, self.backbone = copy_with(run.backbone.model, run.backbone)
        plans = [
            decide(self.backbone, spec, run.registry, thaw=run.thaw)
            for spec in run.schedule.plans()
        ]
        groups = group_for_all_phases(
            self.backbone, _plan(self.model), plans, LEARNING_RATE, WEIGHT_DECAY
        )
        self.optimizer = torch.optim.SGD(groups, LEARNING_RATE, momentum=0.9)
        steps = run.epochs * run.steps_per_epoch
        self.rates = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, 2 * steps)
        self.ddp = DistributedDataParallel(self.model) if has_other_ranks() else None
        self.task, self.begin = task, begin
        self.run = FollowedSchedule(
            self.backbone,
            run.schedule,
            Training(self.optimizer, (self.rates,), self.ddp),
            run.registry,
            progress=Progress(epochs=run.epochs, steps_per_epoch=run.steps_per_epoch),
            sample=task.kwargs or task.args,
            thaw=run.thaw,
        )

    def step(self, names: tuple[str, ...]) -> TrainedCopy:
        # Each step draws the same random numbers, whatever was drawn by checks before it.
        self.begin.restore()
        done = train(self.model, self.optimizer, self.task, 1, names, CLIP, through=self.ddp)
        self.rates.step()
        return done

    def state(self) -> dict[str, Any]:  # Any: state dicts
        parts = self.model, self.optimizer, self.rates, self.run
        state = {str(i): part.state_dict() for i, part in enumerate(parts)}
        return copy.deepcopy(state)

    def load(self, state: Mapping[str, Any]) -> None:  # Any: as above
        for i, part in enumerate((self.model, self.optimizer, self.rates, self.run)):
            part.load_state_dict(state[str(i)])

    def bits(self) -> dict[str, bytes]:
        tensors = (*self.model.named_parameters(), *self.model.named_buffers())
        return {name: digest(tensor)[0] for name, tensor in tensors}


def _plan(model: nn.Module) -> Any:  # Any: the record of freezekit in the dict of a module
    from freezekit.freezing.eval_hold import RECORD

    return model.__dict__[RECORD].plan


def verify_schedule(
    run: ScheduledRun,
    inputs: Any,  # Any: whatever the model takes
    loss: LossFunction | None = None,
) -> Verification:
    """Do what `Frozen.verify_schedule` documents."""
    from freezekit.verify.entry import _arguments, _check

    model = run.backbone.model
    _check(model, 1, None)
    for name, value in (("epochs", run.epochs), ("steps_per_epoch", run.steps_per_epoch)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise FreezeError(f"{name} is {value!r}, expected a whole number of at least 1")
    with state_preserved(model), caches_kept(model), eagerly(model):
        args, kwargs = _arguments(model, inputs)
        task = TrainingTask(args, kwargs, loss or loss_function(task_of(model)))
        begin = RandomState.now(cuda_devices(model))
        live = _Live(run, task, begin)
        found = _Found()
        history, events = _train_through(live, run, found)
        found.add(_undo(live))
        found.add(_resumed(live, run, history, events))
        phases = count(len(live.run.transitions) + 1, "phase")
        steps = count(len(history), "step")
        where = f"{phases}, {steps} of SGD, input {shapes_text((args, kwargs))}"
        return Verification(found.checks, where)


class _Found:
    """One check of each name: the first that failed, or else the last."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}

    def add(self, check: Check | None, phase: int | None = None) -> None:
        if check is None:
            return
        before = self._checks.get(check.name)
        if before is not None and not before.passed:
            return
        if phase is not None:
            check = replace(check, detail=f"phase {phase}: {check.detail}")
        self._checks[check.name] = check

    @property
    def checks(self) -> tuple[Check, ...]:
        return tuple(self._checks.values())


def _train_through(
    live: _Live, run: ScheduledRun, found: _Found
) -> tuple[list[dict[str, bytes]], set[int]]:
    """Train and check; return the bits after each step, and the calls that changed the plan."""
    history: list[dict[str, bytes]] = []
    events: set[int] = set()
    call, phase = 0, 1
    reference, trained = copy_with(live.model)[0], None
    claims = claims_of_plan(live.backbone, live.run.plan)
    at_begin = True

    def reached(names: list[str]) -> set[str]:
        return reached_when_thawed(copy_with(live.model)[0], live.task, names)

    for _ in range(run.epochs):
        for i in range(run.steps_per_epoch + 1):
            is_step = i < run.steps_per_epoch
            if is_step and at_begin:
                reference, trained, at_begin = copy_with(live.model)[0], None, False
                claims = claims_of_plan(live.backbone, live.run.plan)
                found.add(
                    same_in_train_and_eval(copy_with(live.model)[0], live.task, claims), phase
                )
            if is_step:
                trained = _joined(trained, live.step(claims.trained))
                history.append(live.bits())
                found.add(frozen_weights(reference, trained, claims, ()), phase)
                make = _used(reference, live.task)
                found.add(fixed_statistics(reference, trained, claims, make), phase)
                found.add(parameter_groups(trained, claims, False, all_phases=True), phase)
                found.add(gradients(trained, claims, reached), phase)
                found.add(equal_on_all_ranks(live.model, claims), phase)
            before = len(live.run.transitions)
            _ = live.run.step() if is_step else live.run.epoch({"loss": 1.0})
            if len(live.run.transitions) > before:
                events.add(call)
                phase, at_begin = phase + 1, True
            call += 1
    return history, events


def _used(reference: nn.Module, task: TrainingTask) -> Any:  # Any: a function without arguments
    def make() -> nn.Module:
        model: nn.Module = copy_with(reference)[0]
        with torch.no_grad():
            task.forward(model.eval())
        return model

    return make


def _joined(one: TrainedCopy | None, other: TrainedCopy) -> TrainedCopy:
    if one is None:
        return other
    finite = {**one.finite, **other.finite}
    finite = {name: one.finite.get(name, True) and good for name, good in finite.items()}
    return replace(other, finite=finite, losses=(*one.losses, *other.losses))


def _undo(live: _Live) -> Check:
    return undo_restores(live.model, copy_with(live.model)[0])


def _resumed(
    first: _Live, run: ScheduledRun, history: list[dict[str, bytes]], events: set[int]
) -> Check:
    """Train again, killed and resumed before and after each change of plan; compare all bits."""
    live, call, step = _Live(run, first.task, first.begin), 0, 0
    for _ in range(run.epochs):
        for i in range(run.steps_per_epoch + 1):
            is_step = i < run.steps_per_epoch
            if is_step:
                live.step(claims_of_plan(live.backbone, live.run.plan).trained)
                now, then = live.bits(), history[step]
                step += 1
                off = tuple(name for name in then if now.get(name) != then[name])
                if off:
                    detail = f"{len(off)} differ after step {step} from a training not resumed"
                    return Check("resume", False, detail, off)
            if call in events:
                live = _again(live, run)
            _ = live.run.step() if is_step else live.run.epoch({"loss": 1.0})
            if call in events:
                live = _again(live, run)
            call += 1
    detail = f"the same bits, resumed before and after {count(len(events), 'change')} of plan"
    return Check("resume", True, detail)


def _again(live: _Live, run: ScheduledRun) -> _Live:
    resumed = _Live(run, live.task, live.begin)
    resumed.load(live.state())
    return resumed
