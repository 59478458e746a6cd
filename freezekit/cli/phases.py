"""What `freezekit show --schedule` finds out: the phases of a run, and what their steps cost."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from msgspec import to_builtins

from freezekit.bench.cache_figures import forwards_of
from freezekit.bench.phases import phase_plans
from freezekit.bench.static import static_figures
from freezekit.cli.options import EPOCHS
from freezekit.errors import ScheduleError
from freezekit.freezing.describe import summarise
from freezekit.schedules.preview import preview
from freezekit.spec.training_time import times_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit.backbone.view import Backbone
    from freezekit.bench.phase_plan import PhasePlan
    from freezekit.cache.beforehand import Forwards
    from freezekit.plugins.registry import Registry
    from freezekit.results.records import CacheFigures, Flops, Workload
    from freezekit.schedules.preview import Phase
    from freezekit.spec.schedule import Schedule


STEPS = 100
"""Optimizer steps of an epoch where none are given. They place phases within an epoch."""
MOST_STEPS = 10**6
"""Of a run. A schedule is asked in each, which takes up to 0.1 ms."""


@dataclass(frozen=True)
class Cost:
    """What one step costs, without a real step.

    Attributes:
        peak_bytes: The predicted peak of memory; None where it cannot be predicted.
        flops: None where they cannot be counted.
        problem: Why there are none, "" where there are.
        cache: What a cache of the frozen prefix would hold; None where that is not known.
    """

    peak_bytes: int | None = None
    flops: Flops | None = None
    problem: str = ""
    cache: CacheFigures | None = None


@dataclass(frozen=True)
class Followed:
    """A schedule, and what it does in a run.

    Attributes:
        text: Its canonical text.
        epochs: Epochs of the run.
        steps_per_epoch: Optimizer steps of an epoch; None where they were not given, and `STEPS`
            are taken in their place.
        observes: What it observes: where it observes anything, its later phases are not known.
        phases: The phases in their order.
        costs: One for each phase.
        batch_size: Of the step that is costed.
    """

    text: str
    epochs: int
    steps_per_epoch: int | None
    observes: tuple[str, ...]
    phases: tuple[Phase, ...]
    costs: tuple[Cost, ...]
    batch_size: int


def follow(
    schedule: Schedule,
    backbone: Backbone,
    registry: Registry,
    totals: tuple[int | None, int | None],
    workload: Workload,
    tell: Callable[[str], object],
) -> Followed:
    """Find the phases of a schedule, and what a step of each costs.

    Args:
        schedule: The schedule.
        backbone: A view of the workload's model.
        registry: The strategies of the phases.
        totals: Epochs of the run, and steps of an epoch; None where they were not given.
        workload: The step that is costed.
        tell: Takes what is done now, in words.

    Raises:
        FreezekitError: The phases cannot be found.
    """
    epochs, steps_per_epoch = totals[0] or EPOCHS, totals[1]
    tell(f"{workload.model}: phases")
    phases = _phases(schedule, backbone, registry, totals)
    plans = phase_plans(backbone.model, [phase.plan for phase in phases])
    forwards = forwards_of(workload)
    costs: dict[PhasePlan, Cost] = {}
    for i, each in enumerate(plans, 1):
        if each not in costs:
            tell(f"{workload.model}: memory and FLOPs of phase {i} of {len(phases)}")
            costs[each] = _cost(workload, each, registry, forwards)
    return Followed(
        str(schedule),
        epochs,
        steps_per_epoch,
        tuple(sorted(schedule.observes)),
        phases,
        tuple(costs[each] for each in plans),
        workload.batch_size,
    )


def _phases(
    schedule: Schedule,
    backbone: Backbone,
    registry: Registry,
    totals: tuple[int | None, int | None],
) -> tuple[Phase, ...]:
    """Return the phases; errors speak of the options that were left out."""
    epochs, steps = totals[0] or EPOCHS, totals[1] or STEPS
    if epochs * steps > MOST_STEPS:
        raise ScheduleError(
            f"a run of {epochs} epoch(s) of {steps} step(s) is too long to be followed step by "
            f"step; give --epochs and --steps-per-epoch of at most {MOST_STEPS:,} steps together"
        )
    if totals[1] is None:
        in_steps = next((t for t in times_in(vars(schedule).values()) if t.unit == "step"), None)
        if in_steps is not None:
            raise ScheduleError(
                f"the time {in_steps} needs the number of optimizer steps of an epoch: give "
                "--steps-per-epoch"
            )
    try:
        return preview(schedule, backbone, registry, epochs=epochs, steps_per_epoch=steps)
    except ScheduleError as error:
        taken = (("--epochs", epochs), ("--steps-per-epoch", steps))
        left_out = [
            f"{option} was not given: {number} is taken"
            for (option, number), given in zip(taken, totals, strict=True)
            if given is None
        ]
        raise ScheduleError("; ".join((str(error), *left_out))) from error


def _cost(
    workload: Workload, plan: PhasePlan, registry: Registry, forwards: Forwards | str
) -> Cost:
    try:
        found = static_figures(workload, plan, registry, forwards=forwards)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a model may raise anything; its phases are known
        return Cost(problem=str(error).partition("\n")[0] or type(error).__name__)
    problem = found.warnings[-1] if found.flops is None else ""
    return Cost(found.memory.peak_bytes, found.flops, problem, found.cache)


def as_data(followed: Followed, backbone: Backbone) -> dict[str, object]:
    """Return it for JSON."""
    is_counted = followed.steps_per_epoch is not None
    phases: list[dict[str, object]] = []
    for phase, cost in zip(followed.phases, followed.costs, strict=True):
        begins = phase.begins
        phases.append(
            {
                "begins": {
                    "step": begins.step if is_counted else None,
                    "epoch": begins.epoch,
                    "position": begins.position,
                },
                "steps": phase.steps if is_counted else None,
                "spec": phase.spec,
                "reason": phase.reason,
                "stages": [asdict(summary) for summary in summarise(backbone, phase.plan)],
                "rates": phase.rates,
                "peak_bytes": cost.peak_bytes,
                "flops": None
                if cost.flops is None
                else {"forward": cost.flops.forward, "backward": cost.flops.backward},
                "problem": cost.problem,
                "cache": None if cost.cache is None else to_builtins(cost.cache),
                "plan": json.loads(phase.plan.to_json()),
            }
        )
    return {
        "schedule": followed.text,
        "epochs": followed.epochs,
        "steps_per_epoch": followed.steps_per_epoch,
        "observes": followed.observes,
        "batch_size": followed.batch_size,
        "phases": phases,
    }
