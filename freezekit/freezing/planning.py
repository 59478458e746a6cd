"""Make the plan of a spec for one model: ask each strategy, compose and check the answers."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from freezekit.backbone.view import Backbone
from freezekit.errors import (
    FreezekitWarning,
    PlanError,
    PluginError,
    SpecError,
    StagingError,
    some,
    suggest,
)
from freezekit.freezing.joining import intersection_warning, unite
from freezekit.freezing.left_frozen import leave_frozen
from freezekit.freezing.plan import FreezePlan
from freezekit.freezing.without_head import headless_warning
from freezekit.freezing.wrapped import check_model, staging_advice
from freezekit.plugins.read_only import answer_of
from freezekit.plugins.registering import default_registry
from freezekit.spec.strategy import Strategy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import nn

    from freezekit.plugins.registry import Registry


def plan(
    model: nn.Module | Backbone,
    spec: str | Strategy,
    *,
    thaw: bool = False,
    example_input: Any = None,  # Any: whatever the model takes
    registry: Registry | None = None,
) -> FreezePlan:
    """Return the plan of a spec for a model, with the names of `eval_modules`.

    The model is not changed. Parameters that arrive with `requires_grad=False` are in `frozen`, and
    a note names them. Such are fixed position tables, the base weights under adapters, and what you
    froze by hand. Modules that are wholly frozen by them are held in eval mode too.

    Args:
        model: Any module, or the `Backbone` view of one.
        spec: Text such as "first-n-stages:n=2 + discriminative-lr:decay=0.8", or a strategy.
        thaw: Train all that the spec does not freeze, also what arrives frozen.
        example_input: As in `Backbone`.
        registry: The strategies that the text can name. The default is all installed plugins.

    Raises:
        SpecError: The text cannot be read, or names an unknown strategy or option.
        StagingError: A strategy needs stages, and the model has none.
        PlanError: The plan names a parameter or module that the model lacks, or leaves nothing to
            train.
        PluginError: A strategy failed, or returned something other than a plan.
        ModelError: The model is no module, or a lazy module has not been given its shape.
        FreezeError: The model is wrapped for several processes already, or traced.

    Warns:
        FreezekitWarning: The plan probably does not do what the user meant.

    Example:
        >>> from freezekit import load_backbone, plan
        >>> decided = plan(load_backbone("torchvision:resnet18", device="meta"), "head-only")
        >>> len(decided.frozen), "layer1" in decided.eval_modules
        (60, True)
    """
    registry = registry or default_registry()
    decided = decide(view(model, example_input, registry), spec, registry, thaw=thaw)
    warn(decided.warnings, stacklevel=3)
    return decided


def decide(
    backbone: Backbone, spec: str | Strategy | FreezePlan, registry: Registry, *, thaw: bool = False
) -> FreezePlan:
    """Do what `plan` does without warnings. A plan in place of a spec is checked."""
    decided = check_plan(backbone, _asked(backbone, spec, registry))
    return decided if thaw else leave_frozen(backbone, decided)


def _asked(backbone: Backbone, spec: str | Strategy | FreezePlan, registry: Registry) -> FreezePlan:
    if isinstance(spec, FreezePlan):
        return spec
    if not isinstance(spec, (str, Strategy)):
        raise SpecError(
            f"a spec is {type(spec).__name__} {spec!r}, expected text such as "
            "'first-n-stages:n=2', a Strategy or a FreezePlan"
        )
    sums = ((spec,),) if isinstance(spec, Strategy) else registry.sums(spec)
    try:
        return _of_sums(backbone, sums, registry)
    except StagingError as error:
        if advice := staging_advice(backbone.model):
            raise StagingError(advice) from error
        raise


def _of_sums(
    backbone: Backbone, sums: Sequence[Sequence[Strategy]], registry: Registry
) -> FreezePlan:
    """Return the plan of sums of strategies, which unite what they train."""
    warned: list[str] = []
    decided = []
    for strategies in sums:
        plans = [_ask(s, backbone, registry) for s in strategies]
        decided.append(_named(backbone, _compose(backbone, plans)))
        warned += intersection_warning(backbone, strategies, plans)
    united = decided[0] if len(decided) == 1 else unite(decided)
    if warned and not backbone.parameters.keys() - united.frozen:
        raise PlanError(f"nothing is left to train: {warned[0]}")
    warned += headless_warning(backbone, sums, united.frozen)
    if unused := backbone.unused:
        warned.append(
            f"the forward of {type(backbone.model).__name__} did not use {some(unused)}. They are "
            "in the stages of what is registered before them, or in the head. If it uses them for "
            "another input, pass that as example_input"
        )
    return replace(united, warnings=(*united.warnings, *warned))


def warn(texts: Iterable[str], stacklevel: int) -> None:
    """Show texts as Python warnings of the caller."""
    for text in texts:
        warnings.warn(text, FreezekitWarning, stacklevel=stacklevel)


def view(model: nn.Module | Backbone, example_input: Any, registry: Registry) -> Backbone:
    """Return the view of a model that uses the stages of plugins."""
    if isinstance(model, Backbone):
        return model
    check_model(model)
    return Backbone(model, example_input, stager=registry.stages)


def check_plan(backbone: Backbone, plan: FreezePlan) -> FreezePlan:
    """Return the plan with the names of `eval_modules`, and with one name per tied parameter.

    Raises:
        PlanError: The plan names a parameter or module that the model lacks, or leaves nothing to
            train.
    """
    named = _named(backbone, plan)
    if not backbone.parameters:
        raise PlanError(f"{type(backbone.model).__name__} has no parameters: nothing to freeze")
    if not backbone.parameters.keys() - named.frozen:
        raise PlanError(
            f"nothing is left to train: all {len(named.frozen)} parameters of "
            f"{type(backbone.model).__name__} are frozen; leave at least the head trainable"
        )
    return named


def _named(backbone: Backbone, plan: FreezePlan) -> FreezePlan:
    """Return the plan with all its names as the backbone has them."""
    first_names = {a: p.name for p in backbone.parameters.values() for a in (p.name, *p.aliases)}
    _check_names("frozen", "parameter", plan.frozen, first_names)
    _check_names("lr_scales", "parameter", plan.lr_scales, first_names)
    frozen = {first_names[name] for name in plan.frozen}
    held = backbone.inside(frozen) if plan.eval_modules is None else plan.eval_modules
    _check_names("eval_modules", "module", held, backbone.modules)
    scales = {first_names[name]: scale for name, scale in plan.lr_scales.items()}
    return FreezePlan(
        frozen,
        held,
        {name: scale for name, scale in scales.items() if name not in frozen and scale != 1},
        plan.notes,
        plan.warnings,
    )


def _check_names(field: str, what: str, names: Iterable[str], known: Iterable[str]) -> None:
    known = set(known)
    unknown = sorted(set(names) - known)
    if unknown:
        raise PlanError(
            f"the plan's {field} names {len(unknown)} {what}(s) that the model lacks: "
            f"{unknown[0]!r}{suggest(unknown[0], known)}"
        )


def _ask(strategy: Strategy, backbone: Backbone, registry: Registry) -> FreezePlan:
    """Return the plan of one strategy. A failure is reported as the fault of its plugin."""
    whose = f"strategy {strategy.name!r} ({registry.origin(strategy)})"
    answer = answer_of(lambda: strategy.plan(backbone), backbone.model, whose, "plan")
    if not isinstance(answer, FreezePlan):
        raise PluginError(f"{whose} returned {type(answer).__name__!r}, expected a FreezePlan")
    return answer


def _compose(backbone: Backbone, plans: list[FreezePlan]) -> FreezePlan:
    """Compose plans.

    If one of them has `eval_modules=None`, the modules inside what all plans together freeze are
    held in eval mode. Modules that one plan freezes wholly by itself, but leaves out of its own
    `eval_modules`, are not held: that plan wants them in train mode.
    """
    has_default = any(p.eval_modules is None for p in plans)
    together = {name for p in plans for name in p.frozen} if has_default else set()
    in_train_mode = {
        name
        for p in plans
        if p.eval_modules is not None
        for name in backbone.wholly_frozen(p.frozen) - p.eval_modules
    }
    composed = FreezePlan(eval_modules=backbone.inside(together) - in_train_mode)
    for p in plans:
        composed &= FreezePlan(p.frozen, p.eval_modules or (), p.lr_scales, p.notes, p.warnings)
    return composed
