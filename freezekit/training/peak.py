"""The memory that a training will need, predicted without a real step."""

from __future__ import annotations

from textwrap import shorten
from typing import TYPE_CHECKING, Any

from freezekit.backbone.staged import on_own_size_or
from freezekit.bench.phases import phase_plans
from freezekit.bench.static import static_figures
from freezekit.bench.workload import inputs_of, load_on_shapes
from freezekit.errors import PlanError, ScheduleError, SpecError
from freezekit.freezing.planning import decide, view
from freezekit.results.records import Workload
from freezekit.schedules.preview import preview

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.bench.phase_plan import PhasePlan
    from freezekit.freezing.plan import FreezePlan
    from freezekit.plugins.registry import Registry
    from freezekit.training.records import Recipe


def predicted_peak(
    recipe: Recipe, classes: int, steps_per_epoch: int, registry: Registry
) -> tuple[int | None, str]:
    """Return the bytes of a step in the phase that needs most, on images; or None, and why.

    It takes seconds. No failure of the model is a reason not to train: it may need real numbers.

    Args:
        recipe: How the training goes.
        classes: Of the images.
        steps_per_epoch: Batches of an epoch; a schedule may depend on it.
        registry: Of strategies and schedules.

    Raises:
        SpecError, ScheduleError, PlanError: The strategy or the schedule does not fit the model or
            the number of epochs.

    Example:
        >>> from freezekit import Recipe, load_registry
        >>> recipe = Recipe("timm:test_vit", "head-only", epochs=2, image_size=32)
        >>> found, _ = predicted_peak(recipe, 3, 5, load_registry())
        >>> 10**6 < found < 10**7
        True
    """
    workload = Workload(
        recipe.model,
        batch_size=recipe.batch_size,
        image_size=recipe.image_size,
        num_classes=classes,
        pretrained=recipe.pretrained,
        device=recipe.device,
        amp=recipe.amp,
        optimizer=recipe.optimizer,
    )
    try:
        peaks = []
        for plan in _largest(_plans(recipe, workload, steps_per_epoch, registry)):
            found = static_figures(
                workload, plan, registry, lean=recipe.lean, flops=False, workspace=True
            )
            memory = found.memory
            if memory.peak_bytes is None:
                return None, f"the peak of memory cannot be predicted: {found.warnings[-1]}"
            averages = 0 if recipe.ema is None else memory.gradients_bytes or 0
            peaks.append(memory.peak_bytes + averages)
        return max(peaks), ""
    except (SpecError, ScheduleError, PlanError):
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a model may raise anything on shapes
        said = shorten(f"{type(error).__name__}: {error}", 150, placeholder=" ...")
        return None, f"the peak of memory cannot be predicted ({said})"


def _plans(
    recipe: Recipe, workload: Workload, steps_per_epoch: int, registry: Registry
) -> tuple[PhasePlan, ...]:
    """Return the plans of a training; of a schedule that observes it, those that are known."""
    model = load_on_shapes(workload)

    def ask(example: Any) -> list[FreezePlan]:  # Any: whatever the model takes
        backbone = view(model, example, registry)
        if recipe.schedule is None:
            return [decide(backbone, recipe.strategy, registry)]
        schedule = registry.schedule(recipe.schedule)
        phases = preview(
            schedule, backbone, registry, epochs=recipe.epochs, steps_per_epoch=steps_per_epoch
        )
        later = [decide(backbone, spec, registry) for spec in schedule.plans()]
        return [*(phase.plan for phase in phases), *later]

    return phase_plans(model, on_own_size_or(inputs_of(workload, model), ask))


def _largest(plans: Sequence[PhasePlan]) -> list[PhasePlan]:
    """Return the plans that freeze least: what others freeze beside needs no more memory."""
    return [
        one
        for place, one in enumerate(plans)
        if not any(other.plan.frozen < one.plan.frozen for other in plans)
        and one.plan.frozen not in [other.plan.frozen for other in plans[:place]]
    ]
