"""Figures that need no real step: memory and FLOPs under fake tensors, deterministic."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec
import torch

from freezekit.backbone.staged import on_own_size_or
from freezekit.bench.cache_figures import cache_figures
from freezekit.bench.counting import count_flops, count_parameters
from freezekit.bench.identity import plan_digest
from freezekit.bench.memory import traced_memory
from freezekit.bench.phase_plan import PhasePlan
from freezekit.bench.rows import skip_prefix
from freezekit.bench.stage_figures import stage_figures
from freezekit.bench.workload import (
    Session,
    in_channels_last,
    inputs_of,
    load_on_shapes,
    prepare,
    with_shape,
)
from freezekit.errors import FreezekitError, FreezekitWarning, ModelError
from freezekit.freezing.planning import decide, view
from freezekit.memory.fake import make_fake, needs_values
from freezekit.plugins.registering import default_registry
from freezekit.results.records import (
    FREES_LITTLE,
    CacheFigures,
    Flops,
    Memory,
    Parameters,
    StageFigures,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from freezekit.backbone.view import Backbone
    from freezekit.bench.phase_plan import Measured
    from freezekit.cache.beforehand import Forwards
    from freezekit.freezing.plan import FreezePlan
    from freezekit.plugins.registry import Registry
    from freezekit.results.lean_text import LeanChoice
    from freezekit.results.records import Workload
    from freezekit.results.variant import Variant


@dataclass(frozen=True)
class StaticFigures:
    """What is known of a strategy without a real step.

    Attributes:
        parameters: Elements, and the trainable set's digest.
        memory: Categories and the predicted peak; empty where the model cannot run on fake tensors.
        flops: None where the model cannot run on fake tensors.
        warnings: Those of the plan, and what could not be predicted.
        stages: Empty where no staged view was given.
        plan_digest: Of the plan, and of what was trained before it.
        cache: What a cache of its frozen prefix would hold; None where that was not asked for.
    """

    parameters: Parameters
    memory: Memory
    flops: Flops | None
    warnings: tuple[str, ...] = ()
    stages: tuple[StageFigures, ...] = ()
    plan_digest: str | None = None
    cache: CacheFigures | None = None


def static_figures(
    workload: Workload,
    spec: Measured,
    registry: Registry | None = None,
    *,
    lean: LeanChoice = False,
    cached: bool = False,
    flops: bool = True,
    workspace: bool = False,
    staged: Backbone | None = None,
    forwards: Forwards | str | None = None,
) -> StaticFigures:
    """Count a strategy's parameters, memory and FLOPs without running it for real.

    The model is built on `meta`, where it takes no memory and needs no weights. Its tensors become
    fake ones on the workload's device; then it is frozen and stepped. Figures are those of the
    second step. The peak is that of live storages, without the allocator's workspace.

    Args:
        workload: The training step.
        spec: The strategy, a plan for a model of these names, or the plan of a phase.
        registry: Where it is looked up; None for the default one.
        lean: As in `freeze_`. FLOPs then include what backward computes again.
        cached: Take features of a cache in place of images.
        flops: Count FLOPs too; that doubles the time.
        workspace: Add to the peak what `cpu_workspace` predicts.
        staged: The result of `staged_view`, for figures of each stage.
        forwards: The result of `forwards_of`, for those of a cache.

    Raises:
        FreezekitError: The model cannot be built, the strategy refuses it, or it cannot be cached.
        RuntimeError: The workload's device is "cuda" on a machine without.

    Example:
        >>> from freezekit.results.records import Workload
        >>> tiny = Workload("torchvision:shufflenet_v2_x0_5", batch_size=2, image_size=32)
        >>> figures = static_figures(tiny, "full")
        >>> figures.parameters.total, figures.parameters.trainable
        (1366792, 1366792)
        >>> figures.memory.peak_method, figures.memory.gradients_bytes
        ('predicted', 5467168)
        >>> figures.flops.backward > figures.flops.forward > 10**6
        True
    """
    with session_on_shapes(workload, spec, registry, lean=lean, cached=cached) as (
        session,
        decided,
    ):
        figures = _figures(session, decided, staged, flops, workspace)
    before = spec.trained_before if isinstance(spec, PhasePlan) else ()
    cache = None if forwards is None else cache_figures(forwards, decided)
    return replace(figures, plan_digest=plan_digest(decided, before), cache=cache)


@contextmanager
def session_on_shapes(
    workload: Workload,
    spec: Measured,
    registry: Registry | None = None,
    *,
    lean: LeanChoice = False,
    cached: bool = False,
) -> Iterator[tuple[Session, FreezePlan]]:
    """Give a session on fake tensors, within their mode, and its plan.

    Raises:
        FreezekitError: The model cannot be built, the strategy refuses it, or it cannot be cached.
        RuntimeError: The workload's device is "cuda" on a machine without.
    """
    model = load_on_shapes(workload)
    workload = with_shape(workload, model)  # now: a model on fake tensors cannot be tried on shapes
    given = spec.plan if isinstance(spec, PhasePlan) else spec
    decided = _decide(workload, model, given, registry or default_registry())
    what = PhasePlan(decided, spec.trained_before) if isinstance(spec, PhasePlan) else decided
    if workload.channels_last:  # now: modules cannot convert fake parameters
        model.to(memory_format=torch.channels_last)
    with make_fake(model, workload.device):
        plain = msgspec.structs.replace(workload, channels_last=False)
        session = prepare(plain, model, what, registry, lean=lean)
        session.inputs = inputs_on_shapes(workload, session.model)
        if cached:
            skip_prefix(
                session,
                decided,
                lambda samples: inputs_on_shapes(
                    msgspec.structs.replace(workload, batch_size=samples), session.model
                ),
            )
        yield session, decided


def inputs_on_shapes(workload: Workload, model: nn.Module) -> tuple[Any, ...]:  # Any: its own
    """Return a batch for a model on fake tensors; called within their mode."""
    inputs = inputs_of(workload, model)
    return in_channels_last(inputs) if workload.channels_last else inputs


def predicted_memory(workload: Workload, variant: Variant, registry: Registry | None) -> Memory:
    """Return the memory of a step, with its peak, and workspace as far as it is known.

    Raises:
        FreezekitError: The model cannot be built, the strategy refuses it, or the model needs real
            numbers to run, so that nothing can be predicted.
    """
    found = static_figures(
        workload,
        variant.spec,
        registry,
        lean=variant.lean,
        cached=variant.cached,
        flops=False,
        workspace=True,
    )
    if found.memory.peak_bytes is None:
        raise ModelError(f"{workload.model!r}: {found.warnings[-1]}")
    return found.memory


def frees_little(figures: StaticFigures, full: StaticFigures) -> bool:
    """Return whether a strategy trains less than `full` and still keeps nearly all activations."""
    saved, before = (f.memory.saved_activations_bytes for f in (figures, full))
    if not saved or not before:
        return False
    freezes = figures.parameters.trainable < full.parameters.trainable
    return freezes and saved > before * (1 - FREES_LITTLE)


def _decide(
    workload: Workload, model: nn.Module, spec: str | FreezePlan, registry: Registry
) -> FreezePlan:
    """Return the plan, before the tensors are fake: some models show their stages on numbers only.

    A model on `meta` is then observed on a copy with zeros; fake tensors cannot be given numbers.
    """
    return on_own_size_or(
        inputs_of(workload, model),
        lambda example: decide(view(model, example, registry), spec, registry),
    )


def _figures(
    session: Session,
    plan: FreezePlan,
    staged: Backbone | None,
    wants_flops: bool,
    workspace: bool,
) -> StaticFigures:
    """Count; called within the mode of the session's fake tensors."""
    parameters = count_parameters(session.model)
    try:
        with _freezekit_warnings() as found:
            memory, _ = traced_memory(session, workspace=workspace)
        flops, by_module = count_flops(session) if wants_flops else (None, {})
    except (RuntimeError, FreezekitError) as error:
        if not needs_values(error):
            raise
        reason = str(error.__cause__ or error).splitlines()[0]
        unpredicted = f"memory and FLOPs could not be predicted: needs real numbers ({reason})"
        stages = stage_figures(staged, plan) if staged else ()
        told = (*plan.warnings, unpredicted)
        return StaticFigures(parameters, Memory(), None, told, stages)
    assert memory.tracker_peak_bytes is not None
    predicted = msgspec.structs.replace(
        memory,
        peak_bytes=memory.tracker_peak_bytes + (memory.workspace_bytes or 0),
        peak_method="predicted",
        predicted_peak_bytes=memory.tracker_peak_bytes,
        tracker_peak_bytes=None,
    )
    stages = stage_figures(staged, plan, by_module) if staged else ()
    told = tuple(dict.fromkeys((*plan.warnings, *found)))
    return StaticFigures(parameters, predicted, flops, told, stages)


@contextmanager
def _freezekit_warnings() -> Iterator[list[str]]:
    """Give the list of what freezekit warns of, such as a budget that is too small."""
    found: list[str] = []
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", FreezekitWarning)
        yield found
    for each in said:
        if issubclass(each.category, FreezekitWarning):
            found.append(str(each.message))
        else:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
