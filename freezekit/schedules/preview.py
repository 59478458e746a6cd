"""The phases of a schedule, known before the training: `preview`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from freezekit.errors import ScheduleError
from freezekit.freezing.plan import FreezePlan
from freezekit.schedules.asking import ask, plan_of
from freezekit.spec.grammar import format_named
from freezekit.spec.progress import Progress
from freezekit.spec.strategy import Strategy
from freezekit.spec.training_time import times_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from freezekit.backbone.view import Backbone
    from freezekit.plugins.registry import Registry
    from freezekit.spec.progress import Data
    from freezekit.spec.schedule import Decision, Schedule


@dataclass(frozen=True)
class Phase:
    """The time between two changes of plan.

    Attributes:
        begins: How far the training has come when the phase begins.
        steps: Optimizer steps of the phase; None where they are not known.
        plan: What is frozen.
        spec: The text of the plan; None if the schedule gave a plan without one.
        rates: The first and the last factor of the learning rate in the phase, by the names of
            stages, beside the multipliers of the plan. Both are 1 where a stage is missing.
        reason: Why the schedule begins the phase, in its words.
    """

    begins: Progress
    steps: int | None
    plan: FreezePlan
    spec: str | None
    rates: Mapping[str, tuple[float, float]]
    reason: str


def preview(
    schedule: Schedule,
    backbone: Backbone,
    registry: Registry,
    *,
    epochs: int,
    steps_per_epoch: int | None,
) -> tuple[Phase, ...]:
    """Return the phases of a training, in their order, without training.

    The schedule is asked as in a training: before the first step, after each optimizer step, and at
    the end of each epoch. It sees no metrics and observes nothing. So of a schedule that observes
    something (`schedule.observes`), the later phases depend on the training. If it refuses to go on
    without metrics, the phases end where it does, and the last one has no number of steps.

    Args:
        schedule: What `Registry.schedule` makes of a text.
        backbone: What it decides about.
        registry: The strategies of the phases, and the plugin of the schedule for messages.
        epochs: Epochs of the training.
        steps_per_epoch: Optimizer steps of an epoch. None: the schedule is asked at epochs only,
            and the phases have no numbers of steps.

    Raises:
        ScheduleError: A total is below 1, or the schedule needs one that is not known.
        PluginError: The schedule failed.
        FreezekitError: The plan of a phase cannot be made; the message names the phase.

    Example:
        >>> from freezekit import Backbone, load_backbone, load_registry
        >>> backbone = Backbone(load_backbone("torchvision:resnet18", device="meta"))
        >>> registry = load_registry()
        >>> schedule = registry.schedule("head-only then full at 50%")
        >>> phases = preview(schedule, backbone, registry, epochs=4, steps_per_epoch=100)
        >>> [(p.spec, p.begins.epoch, p.steps, len(p.plan.frozen)) for p in phases]
        [('head-only', 0, 200, 60), ('full', 2, 200, 0)]
    """
    _check_totals(schedule, epochs, steps_per_epoch)
    phases: list[_Open] = []
    plans: dict[str | Strategy | FreezePlan, FreezePlan] = {}
    last: Decision | None = None
    state: Mapping[str, Data] = {}
    rates: Mapping[str, float] = {}
    is_known = True
    for progress, trains in _times(epochs, steps_per_epoch):
        asked = replace(progress, state=state) if state else progress
        try:
            last, before = ask(schedule, backbone, asked, registry, last), last
        except ScheduleError:
            if not (schedule.observes and phases):
                raise
            is_known = False
            break
        state = state if last.state is None else last.state
        rates = rates if last.rates is None else last.rates
        given = last.plan
        if given is None and not phases:
            given = FreezePlan()  # a schedule without a wish begins with what the model trains
        if given is not None and (before is None or given is not before.plan):
            if given not in plans:
                plans[given] = plan_of(given, backbone, progress, registry)
            plan = plans[given]
            if phases and not phases[-1].steps and plan != phases[-1].plan:
                phases.pop()  # replaced before a step was made
            if not phases or plan != phases[-1].plan:
                phases.append(_Open(progress, plan, _spec(last.plan), last.reason))
        if not phases[-1].steps:
            phases[-1].begins = progress  # an epoch ended between the decision and the first step
        if trains:
            phases[-1].train(rates)
    return tuple(
        one.closed(is_counted=steps_per_epoch is not None and (is_known or one is not phases[-1]))
        for one in phases
    )


@dataclass
class _Open:
    """A phase that goes on."""

    begins: Progress
    plan: FreezePlan
    spec: str | None
    reason: str
    steps: int = 0
    first: Mapping[str, float] = dataclasses.field(default_factory=dict)
    last: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def train(self, rates: Mapping[str, float]) -> None:
        if not self.steps:
            self.first = rates
        self.last = rates
        self.steps += 1

    def closed(self, *, is_counted: bool) -> Phase:
        names = dict.fromkeys([*self.first, *self.last])
        rates = {name: (self.first.get(name, 1.0), self.last.get(name, 1.0)) for name in names}
        steps = self.steps if is_counted else None
        return Phase(self.begins, steps, self.plan, self.spec, rates, self.reason)


def _times(epochs: int, steps_per_epoch: int | None) -> Iterator[tuple[Progress, bool]]:
    """Give each time at which a schedule is asked, and whether a step or an epoch follows it."""
    begin = Progress(epochs=epochs, steps_per_epoch=steps_per_epoch)
    step = 0
    for epoch in range(epochs):
        yield replace(begin, step=step, epoch=epoch), True
        if steps_per_epoch is None:
            step += 1  # not known; a schedule must not take a later epoch for the beginning
            continue
        for i in range(1, steps_per_epoch + 1):
            step += 1
            if step < epochs * steps_per_epoch:
                yield Progress(step, epoch, i, epochs, steps_per_epoch), i < steps_per_epoch


def _spec(given: str | Strategy | FreezePlan | None) -> str | None:
    if isinstance(given, Strategy):
        return format_named(given)
    return given if isinstance(given, str) else None


def _check_totals(schedule: Schedule, epochs: int, steps_per_epoch: int | None) -> None:
    for what, total in (("epochs", epochs), ("steps_per_epoch", steps_per_epoch)):
        if total is not None and total < 1:
            raise ScheduleError(f"{what} is {total}, expected 1 or more")
    if steps_per_epoch is None:
        for time in times_in(vars(schedule).values()):
            if time.unit == "step":
                Progress(epochs=epochs).in_epochs(time)  # says what it needs
