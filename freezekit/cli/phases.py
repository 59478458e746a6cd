"""What `freezekit show --schedule` finds out: the phases of a run, and what their steps cost."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from freezekit.bench.static import static_figures
from freezekit.freezing.describe import summarise
from freezekit.schedules.preview import preview

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit.backbone.view import Backbone
    from freezekit.freezing.plan import FreezePlan
    from freezekit.plugins.registry import Registry
    from freezekit.results.records import Flops, Workload
    from freezekit.schedules.preview import Phase
    from freezekit.spec.schedule import Schedule


@dataclass(frozen=True)
class Cost:
    """What one step costs, without a real step.

    Attributes:
        peak_bytes: The predicted peak of memory; None where it cannot be predicted.
        flops: None where they cannot be counted.
        problem: Why there are none, "" where there are.
    """

    peak_bytes: int | None = None
    flops: Flops | None = None
    problem: str = ""


@dataclass(frozen=True)
class Followed:
    """A schedule, and what it does in a run.

    Attributes:
        text: Its canonical text.
        epochs: Epochs of the run.
        steps_per_epoch: Optimizer steps of an epoch; None where they are not known.
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
    totals: tuple[int, int | None],
    workload: Workload,
    tell: Callable[[str], object],
) -> Followed:
    """Find the phases of a schedule, and what a step of each costs.

    Args:
        schedule: The schedule.
        backbone: A view of the workload's model.
        registry: The strategies of the phases.
        totals: Epochs of the run, and steps of an epoch where these are known.
        workload: The step that is costed.
        tell: Takes what is done now, in words.

    Raises:
        FreezekitError: The phases cannot be found.
    """
    epochs, steps_per_epoch = totals
    tell(f"{workload.model}: phases")
    phases = preview(schedule, backbone, registry, epochs=epochs, steps_per_epoch=steps_per_epoch)
    costs: dict[FreezePlan, Cost] = {}
    for i, phase in enumerate(phases, 1):
        if phase.plan not in costs:
            tell(f"{workload.model}: memory and FLOPs of phase {i} of {len(phases)}")
            costs[phase.plan] = _cost(workload, phase.plan, registry)
    return Followed(
        str(schedule),
        epochs,
        steps_per_epoch,
        tuple(sorted(schedule.observes)),
        phases,
        tuple(costs[phase.plan] for phase in phases),
        workload.batch_size,
    )


def _cost(workload: Workload, plan: FreezePlan, registry: Registry) -> Cost:
    try:
        found = static_figures(workload, plan, registry)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a model may raise anything; its phases are known
        return Cost(problem=str(error).partition("\n")[0] or type(error).__name__)
    problem = found.warnings[-1] if found.flops is None else ""
    return Cost(found.memory.peak_bytes, found.flops, problem)


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
                "steps": phase.steps,
                "spec": phase.spec,
                "reason": phase.reason,
                "stages": [asdict(summary) for summary in summarise(backbone, phase.plan)],
                "rates": phase.rates,
                "peak_bytes": cost.peak_bytes,
                "flops": None
                if cost.flops is None
                else {"forward": cost.flops.forward, "backward": cost.flops.backward},
                "problem": cost.problem,
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
