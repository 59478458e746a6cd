"""A live training that follows a schedule."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, Any

from freezekit.errors import FreezeError, ScheduleError
from freezekit.freezing.departures import look, warning
from freezekit.freezing.eval_hold import RECORD
from freezekit.freezing.plan import FreezePlan
from freezekit.freezing.planning import warn
from freezekit.schedules.agreement import agree, mean_over_ranks
from freezekit.schedules.asking import ask, plan_of
from freezekit.schedules.beforehand import (
    check_later_plans,
    check_observes,
    missing_parameters,
)
from freezekit.schedules.between_steps import check_between_steps
from freezekit.schedules.change import (
    Change,
    Training,
    change,
    check_training,
    put_in_force,
)
from freezekit.schedules.epochs import checked_metrics, epoch_warnings
from freezekit.schedules.live_rates import LiveRates
from freezekit.schedules.observing import Observer
from freezekit.schedules.optimizers import (
    check_optimizer,
    hooked,
)
from freezekit.schedules.pending import PendingGradients
from freezekit.schedules.rates import SCHEDULED
from freezekit.schedules.saved_state import (
    VERSION,
    check_state,
    digest,
    kept_weights,
    read_state,
    restore_weights,
)
from freezekit.schedules.sharded import reshard_
from freezekit.spec.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor
    from torch.optim import Optimizer

    from freezekit.backbone.view import Backbone
    from freezekit.freezing.eval_hold import Record
    from freezekit.plugins.registry import Registry
    from freezekit.spec.schedule import Decision, Schedule
    from freezekit.spec.strategy import Strategy


TOLD_STEPS = 3
"""First steps of a training, in which rates that another code sets are noticed."""


@dataclass(frozen=True)
class Transition:
    """A change of plan in a training that follows a schedule.

    Attributes:
        step: Optimizer steps done before it.
        epoch: Epochs ended before it.
        change: What was frozen and thawed.
        reason: Why, in the words of the schedule.
    """

    step: int
    epoch: int
    change: Change
    reason: str = ""


class FollowedSchedule:
    """A live training that follows a schedule; `Frozen.follow` makes it.

    Call `step()` after each step of the optimizer and of its learning-rate scheduler, and `epoch()`
    at the end of each epoch.

    Attributes:
        schedule: The schedule.
        progress: How far the training has come.
        transitions: The changes of plan so far, without the first plan. They do not travel in the
            state dict.
    """

    def __init__(
        self,
        backbone: Backbone,
        schedule: Schedule,
        training: Training,
        registry: Registry,
        *,
        progress: Progress,
        sample: Any = None,  # Any: whatever the model takes
        state: Mapping[str, Any] | None = None,  # Any: what torch.save holds
        thaw: bool = False,
        on_change: Callable[[], object] = lambda: None,
    ) -> None:
        self.schedule = schedule
        self.progress: Progress = progress
        self.transitions: list[Transition] = []
        self._backbone = backbone
        self._record: Record = backbone.model.__dict__[RECORD]
        self._training = training
        self._registry = registry
        self._thaw = thaw
        self._on_change = on_change  # what depends on the plan follows it
        self._group = training.ddp.process_group if training.ddp is not None else None
        self._plans: dict[object, FreezePlan] = {}
        self._given: object = None  # the plan as the schedule gave it last
        self._last: Decision | None = None
        self._waiting: FreezePlan | None = None  # a plan that waits for the end of an accumulation
        self._weights: dict[str, Tensor] | None = None
        self._stepped = 0  # steps of the optimizer since the last step()
        self._pending = PendingGradients(self._optimizer)
        self._is_between_steps = True
        self._warned: set[str] = set()
        self._unseen_calls = 0  # of step() in this epoch, without a step of the optimizer
        self._is_checked = False
        check_observes(schedule, registry)
        optimizer = self._optimizer
        self._rates = LiveRates(backbone, optimizer, training)
        self._asked: Mapping[str, float] = {}  # factors, in force once a plan does not wait
        self._observer = Observer(backbone, optimizer, schedule.observes, sample, self._group)
        self._observes_steps = bool(schedule.observes - {"metrics"})
        self._handles = []
        if (core := hooked(optimizer)) is not None:
            self._handles = [
                core.register_step_pre_hook(self._observer.before_step),
                core.register_step_post_hook(self._after_optimizer_step),
            ]
        self._counts_steps = core is not None
        try:
            agree(
                "follow()",
                {"schedule": str(schedule), "model": digest(backbone), "progress": repr(progress)},
                self._group,
            )
            check_later_plans(backbone, schedule, optimizer, registry, thaw=thaw)
            self._warn(missing_parameters(backbone, optimizer, thaw=thaw))
            if state is None:
                self._decide(progress, is_first=True)
            else:
                self.load_state_dict(state)
        except BaseException:
            self.close()
            raise
        self._set_due()

    def __repr__(self) -> str:
        done = self.progress
        of = f" of {ceil(done.epochs)}" if done.epochs else ""
        return (
            f"FollowedSchedule({str(self.schedule)!r}: {done.step} step(s), "
            f"{done.epoch}{of} epoch(s), {len(self.transitions)} change(s) of plan)"
        )

    @property
    def plan(self) -> FreezePlan:
        """The plan in force."""
        return self._record.plan

    def step(self) -> Change | None:
        """Say that the optimizer has made a step; the plan may change.

        Call it after `optimizer.step()` and the step of a learning-rate scheduler. With gradient
        accumulation it can be called for each small batch too. Steps that the optimizer made are
        counted, and not calls: a call after a small batch, or after a step that GradScaler skipped,
        changes nothing.

        Returns:
            What was frozen and thawed; None where the plan stays.

        Raises:
            FreezeError: The model is no longer frozen by this handle, the plan cannot be put in
                force, or ranks disagree. The training is as before.
            ScheduleError: The optimizer's state was not loaded with the state of the schedule.
        """
        self._check_in_force()
        if not self._is_checked:
            self._check_first_step()
        done, stepped = self.progress, self._stepped
        if self._counts_steps and not stepped:  # a small batch, or a step that GradScaler skipped
            self._is_between_steps, self._unseen_calls = False, self._unseen_calls + 1
            return None
        self._unseen_calls = 0
        made = stepped if self._counts_steps else 1
        if done.steps_per_epoch is not None and done.step_in_epoch >= done.steps_per_epoch:
            self._warn(
                f"this epoch has more than steps_per_epoch={done.steps_per_epoch} steps; phases "
                "that begin at a time in epochs wait for epoch(): call it at the end of each "
                "epoch, or correct steps_per_epoch"
            )
        if not self._training.schedulers and (done.step < TOLD_STEPS or done.step_in_epoch == 1):
            self._warn(self._rates.problem())
        self._is_between_steps, self._stepped = True, 0
        now = Progress(
            done.step + made,
            done.epoch,
            done.step_in_epoch + made,
            done.epochs,
            done.steps_per_epoch,
            state=done.state,
        )
        try:
            changed = self._decide(now)
        except BaseException:
            self._stepped = stepped
            raise
        self._set_due()
        return changed

    def epoch(self, metrics: Mapping[str, float] | None = None) -> Change | None:
        """Say that an epoch has ended, with what was measured in it; the plan may change.

        Args:
            metrics: Numbers by name, such as {"loss": 0.3, "accuracy": 0.91}. Under several ranks
                each rank gives its own, with the same names; the schedule sees their mean.

        Returns:
            What was frozen and thawed; None where the plan stays.

        Raises:
            FreezeError: As `step`.
            ScheduleError: A metric is no number.
        """
        self._check_in_force()
        if not self._is_checked:
            self._check_first_step()
        numbers = checked_metrics({} if metrics is None else metrics)
        for text in epoch_warnings(
            self.progress, self._optimizer, self._stepped, self._unseen_calls
        ):
            self._warn(text)
        if departures := look(self._backbone, self.plan).departures:
            self._warn(warning(departures))
        self._unseen_calls = 0
        agree(
            "epoch()",
            {
                "step": str(self.progress.step + self._stepped),
                "epoch": str(self.progress.epoch),
            },
            self._group,
        )
        numbers = mean_over_ranks(numbers, self._group, what="epoch()")
        done = self.progress
        if self._counts_steps and self._pending.any():
            self._is_between_steps = False  # a change waits for the step that uses them
        changed = self._decide(
            Progress(
                done.step + (self._stepped if self._counts_steps else 0),
                done.epoch + 1,
                0,
                done.epochs,
                done.steps_per_epoch,
                metrics=numbers,
                state=done.state,
            )
        )
        if self._counts_steps:
            self._stepped = 0
        return changed

    def close(self) -> None:
        """End it: the hooks of the optimizer are removed, and the plan in force stays."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def state_dict(self) -> dict[str, Any]:  # Any: what torch.save holds
        """Return all that a resumed training needs, beside model, optimizer and schedulers.

        It holds numbers, texts, lists, dicts and tensors, which `torch.load` reads with
        `weights_only=True`.
        """
        done = self.progress
        return {
            "version": VERSION,
            "schedule": str(self.schedule),
            "model": digest(self._backbone),
            "plan": self.plan.to_json(),
            "waiting": None if self._waiting is None else self._waiting.to_json(),
            "given": self._given if isinstance(self._given, str) else None,
            "rates": dict(self._rates.factors or {}),
            "asked_rates": dict(self._asked),
            "multipliers": self._rates.multipliers(),
            "step": done.step,
            "epoch": done.epoch,
            "step_in_epoch": done.step_in_epoch,
            "epochs": done.epochs,
            "steps_per_epoch": done.steps_per_epoch,
            "state": json.dumps(done.state),
            "stepped": self._stepped,
            "is_between_steps": self._is_between_steps,
            "observer": self._observer.state_dict(),
            "weights": self._weights,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # Any: as above
        """Go on from a state: its plan is put in force, and the next step is the next one.

        Load the states of the model, of the optimizer and of its schedulers too, after `follow`.
        The order among them does not matter.

        Raises:
            ScheduleError: The state is of another schedule, another model or another version.
            FreezeError: The model is no longer frozen by this handle, or ranks disagree.
        """
        self._check_in_force()
        check_state(state, str(self.schedule), digest(self._backbone))
        saved = read_state(state)
        done = self.progress
        if (saved.epochs, saved.steps_per_epoch) != (done.epochs, done.steps_per_epoch):
            self._warn(
                f"the state is of a training of {saved.epochs} epoch(s) of "
                f"{saved.steps_per_epoch} step(s), and this one has {done.epochs} of "
                f"{done.steps_per_epoch}: phases may begin at other times"
            )
        agree("load_state_dict()", {"plan": saved.plan, "step": str(saved.step)}, self._group)
        observed = self._observer.read(saved.observer)
        reshard_(self._backbone.model)
        put_in_force(self._backbone, FreezePlan.from_json(saved.plan), self._training.ddp)
        self._waiting = None if saved.waiting is None else FreezePlan.from_json(saved.waiting)
        self._given, self._last = saved.given, None
        self._rates.expect(saved.rates, saved.multipliers)
        self._asked = saved.asked_rates
        self._is_checked = False
        self.progress = Progress(
            saved.step,
            saved.epoch,
            saved.step_in_epoch,
            done.epochs,
            done.steps_per_epoch,
            state=saved.decoded_state,
        )
        self._stepped, self._is_between_steps = saved.stepped, saved.is_between_steps
        self._observer.go_on(observed)
        self._weights = saved.weights
        self._set_due()
        self._on_change()

    @property
    def _optimizer(self) -> Optimizer:
        assert self._training.optimizer is not None  # `Frozen.follow` requires one
        return self._training.optimizer

    def _after_optimizer_step(self, *_: object) -> None:
        self._stepped += 1
        self._pending.mark()
        self._observer.after_step()

    def _set_due(self) -> None:
        """Say whether the next step is observed, before it is made."""
        if self._observes_steps:
            self._observer.is_due = not (self.progress.step + 1) % self.schedule.observe_every

    def _decide(self, now: Progress, *, is_first: bool = False) -> Change | None:
        """Ask the schedule, and do what it says. On an error nothing has changed."""
        is_step = now.step_in_epoch > 0
        if self._observes_steps and is_step and not now.step % self.schedule.observe_every:
            now = replace(now, observed=self._observer.look())
        decision = ask(self.schedule, self._backbone, now, self._registry, self._last)
        changed = None
        if decision is not self._last or self._waiting is not None:
            changed = self._act(decision, now, is_first=is_first)
        self._last = decision
        if decision.state is not None and decision.state is not now.state:
            now = replace(now, state=decision.state)
        self.progress = now
        if changed is not None or decision.restores_weights:
            self._on_change()
        return changed

    def _act(self, decision: Decision, now: Progress, *, is_first: bool) -> Change | None:
        """Do what a decision says."""
        given, plan = decision.plan, self._waiting
        if given is not None and given is not self._given and given != self._given:
            plan = self._plan_of(given, now)
        rates = self._asked if decision.rates is None else decision.rates
        model, changed, overwritten = self._backbone.model, None, None
        if decision.restores_weights:
            overwritten = kept_weights(model)
            self._restore_weights()
        if plan is None or plan == self.plan:
            self._rates.set(rates, self.plan)
            plan = None
        elif is_first or self._is_between_steps:
            warn(self._new_warnings(plan), stacklevel=5)
            try:
                check_training(self._backbone, self._training)
                changed = change(self._backbone, plan, self._training, rates)
            except BaseException:
                if overwritten is not None:
                    restore_weights(model, overwritten)
                raise
            self._rates.are(rates)
            if not is_first:
                self.transitions.append(Transition(now.step, now.epoch, changed, decision.reason))
            plan = None
        if decision.keeps_weights:
            self._weights = kept_weights(model)
        self._waiting, self._asked = plan, rates
        if given is not None:
            self._given = given
        return changed

    def _plan_of(self, given: str | Strategy | FreezePlan, now: Progress) -> FreezePlan:
        if given not in self._plans:
            check_between_steps(self._backbone.model)  # to make a plan can run the model's hooks
            self._plans[given] = plan_of(
                given, self._backbone, now, self._registry, thaw=self._thaw
            )
        return self._plans[given]

    def _restore_weights(self) -> None:
        if self._weights is None:
            raise ScheduleError(
                f"schedule {self.schedule.name!r} restores weights, and has kept none; it must "
                "answer with keeps_weights first"
            )
        restore_weights(self._backbone.model, self._weights)

    def _new_warnings(self, plan: FreezePlan) -> list[str]:
        new = [text for text in plan.warnings if text not in self._warned]
        self._warned.update(new)
        return new

    def _check_in_force(self) -> None:
        if self._backbone.model.__dict__.get(RECORD) is not self._record:
            raise FreezeError(
                f"this schedule is no longer followed: {type(self._backbone.model).__name__} was "
                "undone or frozen again; call follow() of the handle that the last freeze_() "
                "returned"
            )
        if self._counts_steps and not self._handles:
            raise FreezeError(
                "this schedule is no longer followed: close() was called, or follow() again; use "
                "what the last follow() returned"
            )

    def _check_first_step(self) -> None:
        """Check what can only be known once all is made and loaded."""
        self._rates.check_expected()
        check_training(self._backbone, self._training)
        check_optimizer(self._optimizer, self._backbone.model, self.plan)
        self._is_checked = True
        is_scheduled = any(SCHEDULED in group for group in self._optimizer.param_groups)
        if is_scheduled and not self._training.schedulers:
            text = (
                "a learning-rate scheduler is attached to the optimizer, and was not given to "
                "follow(): a phase that changes multipliers will be refused; give it as "
                "schedulers=[scheduler]"
            )
            warn([text], stacklevel=4)

    def _warn(self, text: str) -> None:
        """Warn of something once."""
        if text and text not in self._warned:
            self._warned.add(text)
            warn([text], stacklevel=4)
