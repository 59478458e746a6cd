"""Verification of a model: a copy is trained, and each claim is checked on it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from freezekit.backbone.view import Backbone
from freezekit.errors import FreezeError
from freezekit.freezing.departures import look, warning
from freezekit.freezing.eval_hold import RECORD, Record
from freezekit.freezing.parameter_groups import MULTIPLIER, group_parameters
from freezekit.model.compiling import check_compiler, compile_
from freezekit.model.copies import eagerly
from freezekit.model.loss import LossFunction, loss_function
from freezekit.model.modes import in_mode
from freezekit.model.nested import shapes_text
from freezekit.model.outside import caches_kept
from freezekit.model.random_state import RandomState, cuda_devices
from freezekit.model.tasks import task_of
from freezekit.verify.checks import fixed_statistics, frozen_weights, gradients, parameter_groups
from freezekit.verify.claims import Claims, check_values, claims_of_flags, claims_of_plan
from freezekit.verify.compiled import same_as_stock
from freezekit.verify.inputs import arguments_of, example_or
from freezekit.verify.isolation import check_carried, copy_with, state_preserved
from freezekit.verify.modes import same_in_train_and_eval
from freezekit.verify.plain_statistics import moved_plain_tensors
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
    from collections.abc import Container, Mapping

    from torch import Tensor

    from freezekit.freezing.plan import FreezePlan
    from freezekit.lean import Lean


def verify_model(
    model: nn.Module,
    inputs: Any = None,  # Any: whatever the model takes
    *,
    steps: int = 3,
    loss: LossFunction | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    compiled: bool = False,
) -> Verification:
    """Train a copy of a model that was frozen by hand, and check that frozen is frozen.

    The flags say what is checked. Parameters with `requires_grad=False` must keep every bit.
    Modules whose parameters are all frozen must keep their statistics and draw no random numbers. A
    model that `freeze_` froze is verified as by `Frozen.verify`.

    The model, its gradients and all random state stay as they are. Only the copy is trained, with
    `model.train()` before each step. Hooks of the model run on the copy.

    Under an initialised process group of several ranks, call it on every rank. The model as it is
    at the call is compared: frozen parameters and the buffers of held modules must have the same
    bits on all ranks, and trained parameters too under DistributedDataParallel. The steps are not
    compared. Each rank trains its copy alone, with its own input, so that trained parameters of
    the copies may differ; that frozen ones stay as they are is proved on each rank.

    Args:
        model: Any module with values, not on "meta". Of DistributedDataParallel, the module inside
            is verified.
        inputs: What its forward takes: a tensor such as images of shape (batch, 3, height, width),
            a tuple of arguments, or a dict of keyword arguments. None: random inputs, batch 2.
        steps: Training steps, at least one.
        loss: A function from the model's output to a scalar tensor; by default the loss of
            `freezekit bench`.
        optimizer: The optimizer that will train the model; a copy of it, with its state, trains the
            copy of the model. By default SGD with momentum and weight decay over all trainable
            parameters.
        compiled: Train the copy through `torch.compile`.

    Raises:
        ModelError: The model refuses the input, is on "meta" or scripted in part, cannot be copied,
            or there is no loss with a gradient.
        CompilationError: The copy cannot be compiled.
        FreezeError: Nothing is frozen, nothing is trained, or the optimizer failed. Or another rank
            did not call it within a minute.

    Example:
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(1, -1))
        >>> model.append(nn.Linear(4 * 6 * 6, 2))[:2].requires_grad_(False)
        Sequential(...)
        >>> found = verify_model(model, torch.rand(2, 3, 8, 8))
        >>> [check.name for check in found.checks if not check.passed]
        ['fixed-statistics', 'same-in-train-and-eval']
    """
    if isinstance(model, nn.parallel.DistributedDataParallel):
        model = model.module  # its copy must not wait for other ranks
    record = model.__dict__.get(RECORD)
    if record is not None:
        return verify_frozen(
            Backbone(model),
            record.plan,
            inputs,
            steps=steps,
            loss=loss,
            optimizer=optimizer,
            compiled=compiled,
        )
    _check(model, steps, optimizer)
    claims = claims_of_flags(Backbone(model))
    return _Subject(model, claims, None, loss, optimizer, compiled).verify(inputs, steps)


def verify_frozen(
    backbone: Backbone,
    plan: FreezePlan,
    inputs: Any = None,  # Any: whatever the model takes
    *,
    steps: int = 3,
    loss: LossFunction | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    compiled: bool = False,
) -> Verification:
    """Do what `Frozen.verify` documents, for a model on which this plan is in force.

    Raises:
        ModelError, FreezeError: As `verify_model`.
    """
    _check(backbone.model, steps, optimizer)
    inputs = example_or(backbone, inputs)
    claims = claims_of_plan(backbone, plan)
    subject = _Subject(backbone.model, claims, plan, loss, optimizer, compiled)
    found = subject.verify(inputs, steps)
    departures = look(backbone, plan).departures
    return replace(found, notes=(warning(departures),)) if departures else found


@dataclass(frozen=True)
class _Subject:
    """What is verified, and the user's objects for it. All of these are copied, never used."""

    model: nn.Module
    claims: Claims
    plan: FreezePlan | None
    loss: LossFunction | None
    optimizer: torch.optim.Optimizer | None
    compiled: bool

    def verify(self, inputs: Any, steps: int) -> Verification:  # Any: whatever the model takes
        # Ranks first, before all that may wait for others.
        on_ranks = equal_on_all_ranks(self.model, self.claims)
        kept = caches_kept(self.model)
        with state_preserved(self.model) as stale, kept, eagerly(self.model):
            args, kwargs = arguments_of(self.model, inputs)
            begin = RandomState.now(cuda_devices(self.model))
            trained, task = self._trained(args, kwargs, stale, steps)
            kind = type(trained.optimizer).__name__
            checks = self._checks(trained, task, stale)
            if self.compiled and _lean_of(self.model) is not None:
                begin.restore()  # the same labels, dropout and so on
                stock, _ = self._trained(args, kwargs, stale, steps, lean=False)
                checks = (*checks, same_as_stock(trained, stock))
            return Verification(
                (*checks, on_ranks) if on_ranks else checks,
                f"{count(steps, 'step')} of {kind}, input {shapes_text((args, kwargs))}"
                f"{', compiled' if self.compiled else ''}",
            )

    def _trained(
        self,
        args: tuple[Any, ...],  # Any: whatever the model takes
        kwargs: dict[str, Any],
        stale: Mapping[str, Tensor],
        steps: int,
        *,
        lean: bool = True,
    ) -> tuple[TrainedCopy, TrainingTask]:
        """Train a copy; `lean` is False for a stock copy of a lean model."""
        model, loss, optimizer = self._copied(self.optimizer)
        attached = _lean_of(model)
        if attached is not None and not lean:
            attached.detach()
        parameters = dict(model.named_parameters())
        for name, gradient in stale.items():  # an optimizer uses it, frozen or not
            parameters[name].grad = gradient.clone()
        task = TrainingTask(args, kwargs, loss)
        if optimizer is None:
            optimizer, clip = self._sgd(model), CLIP
        else:
            clip = None  # the user's own optimizer runs as in the user's loop
        names = self.claims.trained
        if not self.compiled:
            return train(model, optimizer, task, steps, names, clip), task
        check_compiler("cuda" if cuda_devices(model) else "cpu")
        with torch.compiler.set_stance("default"):  # parts that the user compiled run eagerly else
            run = compile_(model)
            return train(model, optimizer, task, steps, names, clip, through=run), task

    def _checks(
        self, trained: TrainedCopy, task: TrainingTask, stale: Container[str]
    ) -> tuple[Check, ...]:
        def reached(names: list[str]) -> set[str]:
            model, loss, _ = self._copied()
            return reached_when_thawed(model, replace(task, loss=loss), names)

        def make_used_copy() -> nn.Module:
            model = in_mode(self._copied()[0], training=False)
            with torch.no_grad():
                task.forward(model)
            return model

        def make_copy() -> nn.Module:
            return self._copied()[0]

        moved = moved_plain_tensors(self.model, trained.model, self.claims, task, make_copy)
        checks = [
            frozen_weights(self.model, trained, self.claims, stale),
            fixed_statistics(self.model, trained, self.claims, make_used_copy, moved),
            same_in_train_and_eval(self._copied()[0], task, self.claims),
            gradients(trained, self.claims, reached),
            parameter_groups(
                trained,
                self.claims,
                is_users=self.optimizer is not None,
                all_phases=_is_for_all_phases(trained, self.claims),
            ),
        ]
        if self.plan is not None:
            checks.append(undo_restores(trained.model, self._copied()[0]))
        return tuple(checks)

    def _copied(
        self, optimizer: torch.optim.Optimizer | None = None
    ) -> tuple[nn.Module, LossFunction, torch.optim.Optimizer | None]:
        """Return copies; random labels are drawn again, as another output may have another size."""
        own = self.loss if isinstance(self.loss, nn.Module) else None  # it may have parameters
        model, optimizer, criterion = copy_with(self.model, optimizer, own)
        check_carried(self.model, model)
        loss = criterion or self.loss or loss_function(task_of(model))
        return model, loss, optimizer

    def _sgd(self, model: nn.Module) -> torch.optim.Optimizer:
        groups: list[Any]  # Any: torch's own records
        if self.plan is not None:
            groups = group_parameters(Backbone(model), self.plan, LEARNING_RATE, WEIGHT_DECAY)
        else:
            parameters = dict(model.named_parameters())
            groups = [parameters[name] for name in self.claims.trained]
        if not groups:
            raise FreezeError(
                f"no parameter of this {type(model).__name__} requires a gradient: its flags were "
                "changed after it was frozen; freeze it again"
            )
        return torch.optim.SGD(groups, LEARNING_RATE, momentum=0.9, weight_decay=WEIGHT_DECAY)


def _lean_of(model: nn.Module) -> Lean | None:
    record: Record | None = model.__dict__.get(RECORD)
    return None if record is None else record.lean


def _check(model: nn.Module, steps: int, optimizer: object) -> None:
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise FreezeError(f"steps is {steps!r}, expected a whole number of at least 1")
    if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
        raise FreezeError(
            f"optimizer is {type(optimizer).__name__} {optimizer!r}, expected a "
            "torch.optim.Optimizer such as torch.optim.SGD(frozen.param_groups(lr=0.1))"
        )
    check_values(model)


def _is_for_all_phases(trained: TrainedCopy, claims: Claims) -> bool:
    """Tell whether an optimizer holds all parameters, and leaves those that are frozen.

    It was made of `param_groups(..., all_phases=True)`, or of `model.parameters()` before it made a
    step: then what is frozen has neither a gradient nor a state, such as momentum, in it.
    """
    optimizer, parameters = trained.optimizer, trained.parameters
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if any(id(p) not in held for p in parameters.values() if p.is_floating_point()):
        return False
    if all(MULTIPLIER in group for group in optimizer.param_groups):
        return True
    frozen = [parameter for name, parameter in parameters.items() if name in claims.frozen]
    return not any(p.grad is not None or optimizer.state.get(p) for p in frozen)
