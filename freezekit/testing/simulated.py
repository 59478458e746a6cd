"""A training without a model's work: a schedule is asked as in a run, and shown made-up numbers."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from freezekit.errors import PlanError, PluginError
from freezekit.freezing.plan import FreezePlan
from freezekit.schedules.asking import ask, plan_of
from freezekit.spec.progress import Observed, Progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from freezekit.backbone.view import Backbone
    from freezekit.plugins.registry import Registry
    from freezekit.spec.progress import Data
    from freezekit.spec.schedule import Decision, Schedule
    from freezekit.spec.strategy import Strategy

EPOCHS, STEPS = 4, 5
"""Of a training, and of each of its epochs."""


@dataclass(frozen=True)
class Asked:
    """What a schedule was asked, and what it answered.

    Attributes:
        progress: With what it was asked.
        decision: What it answered.
        plan: What is frozen after that.
    """

    progress: Progress
    decision: Decision
    plan: FreezePlan


def simulate(
    schedule: Schedule, backbone: Backbone, registry: Registry, metrics: Sequence[str]
) -> Iterator[Asked]:
    """Ask a schedule as a training does: first, after each step, and after each epoch.

    Args:
        schedule: The schedule.
        backbone: What it decides about.
        registry: The strategies of its plans.
        metrics: The names under which metrics are reported.

    Raises:
        PlanError, StagingError, ScheduleError: The schedule, or a strategy that it names, refused.
        FreezekitError: An answer is not valid.
        AssertionError: It changed `progress.state`, or restores weights that it has not kept.
    """
    state: dict[str, Data] = {}
    plan, last, has_kept = FreezePlan(), None, False
    for now in _times():
        text = json.dumps(state)
        progress = replace(
            now,
            state=json.loads(text),
            observed=_observed(schedule, backbone, plan, now),
            metrics=_metrics(metrics, now),
        )
        decision = ask(schedule, backbone, progress, registry, last)
        assert json.dumps(progress.state) == text, (
            f"decide() of {schedule.name} changes progress.state: return the new state in the "
            "Decision, as in Decision(state={**progress.state, 'seen': 1})."
        )
        if decision.plan is not None and (last is None or decision.plan != last.plan):
            plan = _plan_of(decision.plan, backbone, now, registry)
        assert has_kept or not decision.restores_weights, (
            f"{schedule.name} restores weights after {now.step} step(s), and has kept none: answer "
            "with keeps_weights=True first."
        )
        has_kept = has_kept or decision.keeps_weights
        state = state if decision.state is None else dict(decision.state)
        yield Asked(progress, decision, plan)
        last = decision


def _plan_of(
    given: str | Strategy | FreezePlan, backbone: Backbone, now: Progress, registry: Registry
) -> FreezePlan:
    """Return the plan; a strategy can refuse a model, and a plan of the schedule's own cannot."""
    try:
        return plan_of(given, backbone, now, registry)
    except PlanError as error:
        if isinstance(given, FreezePlan):
            raise PluginError(str(error)) from error
        raise


def reported(epoch: int) -> float:
    """Return the value of each metric after an epoch: it falls, then stays.

    Example:
        >>> [reported(epoch) for epoch in (1, 2, 3, 4)]
        [0.5, 0.25, 0.25, 0.25]
    """
    return 0.5 ** min(epoch, 2)


def _times() -> Iterator[Progress]:
    begin = Progress(epochs=EPOCHS, steps_per_epoch=STEPS)
    yield begin
    for epoch in range(EPOCHS):
        for i in range(1, STEPS + 1):
            yield replace(begin, step=epoch * STEPS + i, epoch=epoch, step_in_epoch=i)
        yield replace(begin, step=(epoch + 1) * STEPS, epoch=epoch + 1)


def _metrics(names: Sequence[str], now: Progress) -> dict[str, float]:
    return dict.fromkeys(names, reported(now.epoch)) if now.epoch and not now.step_in_epoch else {}


def _observed(schedule: Schedule, backbone: Backbone, plan: FreezePlan, now: Progress) -> Observed:
    """Return numbers for what the schedule asked to observe, at the steps at which it did."""
    wants = schedule.observes
    if not now.step_in_epoch or now.step % schedule.observe_every:
        return Observed()
    noise = random.Random(now.step)  # the random state of the process stays as it is
    stages = [stage for stage in backbone.stages if stage.parameters]
    trained = [s.name for s in stages if not plan.frozen.issuperset(s.parameters)]

    def numbers(names: Sequence[str]) -> dict[str, float]:
        return {name: noise.uniform(0.5, 1.5) for name in names}

    return Observed(
        gradient_norms=numbers(trained if "gradients" in wants else ()),
        weight_norms=numbers(trained if wants & {"gradients", "weights"} else ()),
        update_norms=numbers(trained if "weights" in wants else ()),
        output_changes=dict.fromkeys(
            # nothing to compare with the first time
            (s.name for s in stages if "outputs" in wants and now.step > schedule.observe_every),
            0.1,
        ),
        # falls, and begins anew after half of the run
        rate=0.1 * 0.8 ** (now.step % (EPOCHS * STEPS // 2)) if "rate" in wants else None,
    )
