"""An optimizer that a trainer has made, with its groups divided for a plan or a schedule."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from freezekit.backbone.staged import stages_or_reason
from freezekit.errors import FreezeError
from freezekit.freezing.parameter_groups import MULTIPLIER, name_apart
from freezekit.freezing.planning import decide
from freezekit.schedules.rates import SCHEDULED, SCHEDULER_RATES, set_multipliers, with_inner

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch.optim import Optimizer

    from freezekit.backbone.view import Backbone
    from freezekit.freezing.plan import FreezePlan
    from freezekit.handle.frozen import Frozen
    from freezekit.plugins.registry import Registry
    from freezekit.spec.schedule import Schedule

PER_GROUP = *SCHEDULER_RATES, "lr_lambdas", "base_momentums", "max_momentums", "warmup_steps"
"""Lists of torch's and timm's schedulers with one entry for each group."""

Place = tuple[int, str, tuple[float, ...]]
"""Of a parameter: the order of its group, its name, and its multipliers under all plans."""
OTHER = "other"
"""The name of the parameters that are not in the model."""


def divide_groups(
    optimizer: Optimizer,
    schedulers: Sequence[Any],  # Any: torch's, timm's and others have no common class
    places: Mapping[int, Place],
) -> None:
    """Divide the groups of an optimizer, and scale their rates, before the first step.

    Options of a group stay: weight decay, momentum, and what schedulers put there. Schedulers get
    an entry for each new group. Each group has a name.

    Args:
        optimizer: Its groups are replaced in place.
        schedulers: All that set its rates.
        places: By the id of a parameter, as `places_by_stage` and `places_by_rate` return them.

    Example:
        >>> import torch
        >>> first, last = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
        >>> optimizer = torch.optim.SGD([first, last], lr=0.1, momentum=0.9)
        >>> rates = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        >>> places = {id(first): (0, "stem", (0.5,)), id(last): (1, "head", (1.0,))}
        >>> divide_groups(optimizer, [rates], places)
        >>> [(group["name"], group["lr"], group["momentum"]) for group in optimizer.param_groups]
        [('stem', 0.05, 0.9), ('head', 0.1, 0.9)]
        >>> rates.base_lrs
        [0.05, 0.1]
    """
    before = list(optimizer.param_groups)
    groups: list[dict[str, Any]] = []  # Any: the type of torch's parameter groups
    origins: list[int] = []
    wanted: dict[int, float] = {}
    for index, group in enumerate(before):
        parts: dict[Place, list[int]] = {}
        for i, parameter in enumerate(group["params"]):
            place = places.get(id(parameter), (len(places), OTHER, (1.0,)))
            parts.setdefault(place, []).append(i)
        whole = group.get("name", f"group {index + 1}") if len(before) > 1 else group.get("name")
        for place in sorted(parts):
            _, name, scales = place
            options = {key: deepcopy(value) for key, value in group.items() if key != "params"}
            part = {"params": [group["params"][i] for i in parts[place]], **options}
            if "param_names" in group:
                part["param_names"] = [group["param_names"][i] for i in parts[place]]
            part |= {"name": f"{whole}, {name}" if whole else name, MULTIPLIER: 1.0}
            wanted[len(groups)] = scales[0]
            groups.append(part)
            origins.append(index)
    name_apart(groups)
    optimizer.param_groups[:] = groups
    for scheduler in with_inner(schedulers):
        for key in PER_GROUP:
            values = getattr(scheduler, key, None)
            if isinstance(values, list) and len(values) == len(before):
                setattr(scheduler, key, [values[index] for index in origins])
    set_multipliers(optimizer, schedulers, wanted)


def places_by_rate(backbone: Backbone, plan: FreezePlan) -> dict[int, Place]:
    """Return the place of each parameter under one plan: by its multiplier, what is frozen apart.

    Example:
        >>> from freezekit import Backbone, FreezePlan, load_backbone
        >>> view = Backbone(load_backbone("torchvision:resnet18", device="meta"))
        >>> plan = FreezePlan({"conv1.weight"}, (), {"fc.weight": 0.5})
        >>> sorted(set(places_by_rate(view, plan).values()))
        [(0, 'frozen', (1.0,)), (1, 'lr x 0.5', (0.5,)), (1, 'lr x 1', (1.0,))]
    """
    found: dict[int, Place] = {}
    for name, parameter in backbone.model.named_parameters():
        scale = plan.lr_scales.get(name, 1.0)
        is_frozen = name in plan.frozen
        found[id(parameter)] = (
            (0, "frozen", (1.0,)) if is_frozen else (1, f"lr x {scale:.4g}", (scale,))
        )
    return found


def places_by_stage(backbone: Backbone, plans: Sequence[FreezePlan]) -> dict[int, Place]:
    """Return the place of each parameter in a training through several plans.

    Args:
        backbone: The view of the model. One without stages has one place, "all".
        plans: The plan in force, and later ones that give one stage several multipliers.
    """
    stages, _ = stages_or_reason(backbone)
    place_of = {
        name: (order, stage.name)
        for order, stage in enumerate(stages or ())
        for name in stage.parameters
    }
    return {
        id(parameter): (
            *place_of.get(name, (0, "all")),
            tuple(plan.lr_scales.get(name, 1.0) for plan in plans),
        )
        for name, parameter in backbone.model.named_parameters()
    }


def places_for(
    frozen: Frozen, schedule: Schedule | None, registry: Registry, *, thaw: bool
) -> dict[int, Place]:
    """Return the place of each parameter; {} where groups can stay.

    Under a schedule, groups are divided by stage, as it may set the rates of stages at any time.
    Under one plan they stay, if it has no multipliers.

    Args:
        frozen: The handle, with the first plan in force.
        schedule: What will be followed, or None.
        registry: The strategies that its phases can name.
        thaw: As in `freeze_`.

    Raises:
        SpecError, PlanError: A later plan of the schedule cannot be made.
    """
    backbone, plan = frozen.backbone, frozen.plan
    if schedule is not None:
        later = [decide(backbone, each, registry, thaw=thaw) for each in schedule.plans()]
        return places_by_stage(backbone, [plan, *later])
    is_needed = any(scale != 1 for scale in plan.lr_scales.values())
    return places_by_rate(backbone, plan) if is_needed else {}


def set_rate(optimizer: Optimizer, lr: float) -> None:
    """Set the learning rate of all groups, before they are divided.

    Raises:
        FreezeError: A learning-rate scheduler has its base rates of the optimizer already, or the
            groups have rates of `Frozen.param_groups`.
    """
    if is_grouped(optimizer):
        raise FreezeError(
            f"lr={lr} was given, and the groups of the {type(optimizer).__name__} were made with a "
            "learning rate by param_groups(); leave one of them out"
        )
    if any(SCHEDULED in group for group in optimizer.param_groups):
        raise FreezeError(
            f"lr={lr} was given, and a learning-rate scheduler is attached to the "
            f"{type(optimizer).__name__}, which has its base rates from there: give the rate to "
            "the optimizer, and leave lr= out"
        )
    for group in optimizer.param_groups:
        group["lr"] = lr


def is_grouped(optimizer: Optimizer) -> bool:
    """Tell whether groups of an optimizer were made by `Frozen.param_groups`."""
    return any(MULTIPLIER in group for group in optimizer.param_groups)
