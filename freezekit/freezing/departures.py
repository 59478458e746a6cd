"""Where a live model has departed from the plan that is in force on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezekit.backbone.view import Backbone
from freezekit.errors import some
from freezekit.freezing.eval_hold import RECORD, HeldInEval, Record
from freezekit.freezing.plan import FreezePlan
from freezekit.model.norms import statistics_of

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from torch import nn


@dataclass(frozen=True)
class Live:
    """What is true of a model now.

    Attributes:
        backbone: A view of the model as it is now.
        plan: What is frozen and held now, by the present names, with the multipliers of the plan in
            force.
        departures: Where that is not what the plan in force says; mostly none.
    """

    backbone: Backbone
    plan: FreezePlan
    departures: tuple[str, ...]


def look(backbone: Backbone, plan: FreezePlan) -> Live:
    """Compare a frozen model with the plan in force.

    A parameter that only has another name, such as that of a layer inside an adapter, is no
    departure.

    Args:
        backbone: The view that was made when the model was frozen.
        plan: The plan that was applied.

    Example:
        >>> from torch import nn
        >>> from freezekit import freeze_
        >>> frozen = freeze_(nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)), "by-name:glob=0.*")
        >>> look(frozen.backbone, frozen.plan).departures
        ()
        >>> _ = frozen.backbone.model[0].bias.requires_grad_(True)
        >>> look(frozen.backbone, frozen.plan).departures
        ("1 parameter(s) that the plan freezes are trained: '0.bias'",)
    """
    model = backbone.model
    names = _names_of_then(model)  # the present names, with those in the plan
    floats = {n for n, p in model.named_parameters() if p.is_floating_point() or p.is_complex()}
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad and n in floats}
    old = {name for name in floats if names[name] in backbone.parameters}
    meant = {name for name in old if names[name] in plan.frozen}
    modules = dict(model.named_modules())
    held = {n for n, m in modules.items() if isinstance(vars(m).get("train"), HeldInEval)}
    wanted = plan.eval_modules or frozenset()
    live = {name for name in held & wanted if modules[name].training}  # `training` was set by hand
    without = {
        name
        for name in held
        if not set(vars(modules[name])["train"].statistics) <= set(statistics_of(modules[name]))
    }
    reshaped = {
        name
        for name, p in model.named_parameters()
        if name in backbone.parameters and tuple(p.shape) != backbone.parameters[name].shape
    }
    departures = tuple(
        f"{len(found)} {what}: {some(sorted(found))}"
        for what, found in (
            ("parameter(s) that the plan freezes are trained", meant - frozen),
            ("parameter(s) that the plan trains are frozen", (frozen & old) - meant),
            ("new parameter(s) are trained", floats - old - frozen),
            ("new parameter(s) are frozen", frozen - old),
            ("parameter(s) have another shape", reshaped),
            ("parameter(s) have left the model", backbone.parameters.keys() - names.values()),
            ("module(s) are no longer held in eval mode under this name", wanted - held),
            ("held module(s) are in training mode until the next train() or eval()", live),
            ("held norm(s) have lost their statistics, and use those of each batch", without),
        )
        if found
    )
    is_same = (
        all(now == then for now, then in names.items())
        and {*backbone.modules, ""} == modules.keys()
        and backbone.parameters.keys() == names.keys()
        and not reshaped
    )
    if is_same and not departures:
        return Live(backbone, plan, ())
    whole = {name for name in names if name not in floats and names[name] in plan.frozen}
    trained: AbstractSet[str] = floats - frozen
    scales = {n: plan.lr_scales[names[n]] for n in trained if names[n] in plan.lr_scales}
    warnings = (*plan.warnings, *([warning(departures)] if departures else []))
    now = FreezePlan(frozen | whole, held - {""}, scales, plan.notes, warnings)
    view = backbone if is_same else Backbone(model, backbone.example_input)
    return Live(view, now, departures)


def warning(departures: tuple[str, ...]) -> str:
    """Return a sentence that lists the departures and says what to do."""
    return (
        f"the model has departed from its plan since freeze_(): {'; '.join(departures)}. What is "
        "true now is shown and used; to bring the model back to a plan, call freeze_() again"
    )


def _names_of_then(model: nn.Module) -> dict[str, str]:
    record: Record = model.__dict__[RECORD]
    known = {} if record.arrivals is None else record.arrivals.names(model)
    return {name: known.get(name, name) for name, _ in model.named_parameters()}
