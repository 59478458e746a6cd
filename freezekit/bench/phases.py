"""The phases of schedules on a workload's model, found without training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freezekit.backbone.staged import on_own_size_or
from freezekit.bench.identity import plan_digest
from freezekit.bench.phase_plan import PhasePlan
from freezekit.bench.workload import inputs_of, load_on_shapes
from freezekit.freezing.planning import view
from freezekit.schedules.preview import Phase, preview
from freezekit.spec.training_time import TrainingTime

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn

    from freezekit.freezing.plan import FreezePlan
    from freezekit.plugins.registry import Registry
    from freezekit.results.records import Workload
    from freezekit.spec.progress import Progress


def phases_of(
    workload: Workload, text: str, registry: Registry, *, epochs: int, steps_per_epoch: int
) -> list[dict[str, Any]]:  # Any: JSON
    """Return the phases of a schedule as data: begin, steps, spec, plan, and the plan's digest.

    Raises:
        FreezekitError: The schedule, or a plan of it, does not fit the model or the run.

    Example:
        >>> from freezekit import load_registry
        >>> from freezekit.results.records import Workload
        >>> text, tiny = "head-only then full at 50%", Workload("timm:test_resnet")
        >>> found = phases_of(tiny, text, load_registry(), epochs=2, steps_per_epoch=10)
        >>> [(phase["begins"], phase["steps"], phase["spec"]) for phase in found]
        [('0ep', 10, 'head-only'), ('1ep', 10, 'full')]
    """
    model = load_on_shapes(workload)
    schedule = registry.schedule(text)

    def ask(example: Any) -> tuple[Phase, ...]:  # Any: whatever the model takes
        backbone = view(model, example, registry)
        return preview(schedule, backbone, registry, epochs=epochs, steps_per_epoch=steps_per_epoch)

    phases = on_own_size_or(inputs_of(workload, model), ask)
    plans = phase_plans(model, [phase.plan for phase in phases])
    return [
        {
            "begins": str(_begin(phase.begins)),
            "steps": phase.steps,
            "spec": phase.spec,
            "plan_digest": plan_digest(plan.plan, plan.trained_before),
            **plan.as_data(),
        }
        for phase, plan in zip(phases, plans, strict=True)
    ]


def phase_plans(model: nn.Module, plans: Iterable[FreezePlan]) -> tuple[PhasePlan, ...]:
    """Return the plans of a run's phases with what the optimizer holds from earlier phases.

    Args:
        model: Not frozen yet.
        plans: Of the phases, in their order.

    Example:
        >>> from torch import nn
        >>> from freezekit import FreezePlan
        >>> model, plans = nn.Linear(2, 2), [FreezePlan(["bias"]), FreezePlan(["weight"])]
        >>> [sorted(phase.trained_before) for phase in phase_plans(model, plans)]
        [[], ['weight']]
    """
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    trained: set[str] = set()
    found = []
    for plan in plans:
        found.append(PhasePlan(plan, frozenset(trained & plan.frozen)))
        trained |= trainable - plan.frozen
    return tuple(found)


def _begin(progress: Progress) -> TrainingTime:
    """Return when a phase begins: in epochs, and in steps within an epoch."""
    if progress.step_in_epoch:
        return TrainingTime(progress.step, "step")
    return TrainingTime(progress.epoch, "ep")
