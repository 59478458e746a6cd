"""Parameter groups for an optimizer: by learning-rate multiplier, with and without weight decay."""

from __future__ import annotations

from contextlib import suppress
from math import isfinite
from typing import TYPE_CHECKING, Any

from freezekit.backbone.staged import stages_or_reason
from freezekit.errors import FreezeError
from freezekit.freezing.apply import can_train

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.backbone.view import Backbone
    from freezekit.freezing.plan import FreezePlan


MULTIPLIER = "freezekit_lr_multiplier"
"""The key of a group that says by what its learning rate was multiplied. It travels in the
optimizer's state dict, so that a later change of the multiplier scales the rate exactly once."""


def group_parameters(
    backbone: Backbone, plan: FreezePlan, lr: float, weight_decay: float
) -> list[dict[str, Any]]:  # Any: the type of torch's parameter groups
    """Return groups of what is trained, as `Frozen.param_groups` describes them."""
    decays = _decays(backbone)
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, parameter in backbone.model.named_parameters():
        if name in plan.frozen or not parameter.requires_grad:
            continue
        key = plan.lr_scales.get(name, 1.0), name in decays
        group = groups.setdefault(key, _group(f"lr x {key[0]:.4g}", *key, lr, weight_decay))
        group["params"].append(parameter)
    return [groups[key] for key in sorted(groups, key=lambda k: (k[0], not k[1]))]


def group_for_all_phases(
    backbone: Backbone,
    plan: FreezePlan,
    others: Sequence[FreezePlan],
    lr: float,
    weight_decay: float,
) -> list[dict[str, Any]]:  # Any: the type of torch's parameter groups
    """Return groups of all parameters, by stage, with and without weight decay.

    A stage to whose parameters the plan in force or one of the others gives several multipliers is
    divided further.
    """
    decays = _decays(backbone)
    stages, _ = stages_or_reason(backbone)
    stage_of = {name: stage.name for stage in stages or () for name in stage.parameters}
    order = {stage.name: i for i, stage in enumerate(stages or ())}
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}  # Any: of sorted keys
    for name, parameter in backbone.model.named_parameters():
        if not can_train(parameter):
            continue
        stage = stage_of.get(name, "all")
        scales = tuple(p.lr_scales.get(name, 1.0) for p in (plan, *others))
        key = (order.get(stage, 0), *scales, name not in decays)
        group = groups.setdefault(key, _group(stage, scales[0], name in decays, lr, weight_decay))
        group["params"].append(parameter)
    found = [groups[key] for key in sorted(groups)]
    name_apart(found)
    return found


def check_rate(name: str, value: object) -> None:
    """Refuse what is no learning rate and no weight decay: torch takes any value of a group.

    Args:
        name: Of the argument.
        value: A number, or a tensor with one.

    Raises:
        FreezeError: It is no number, it is negative, or it is not finite.

    Example:
        >>> check_rate("lr", 1e-3)
        >>> check_rate("lr", -1)
        Traceback (most recent call last):
        freezekit.errors.FreezeError: lr is -1, expected a finite number of at least 0
    """
    try:
        number = float("nan") if isinstance(value, (str, bool)) else float(value)  # type: ignore[arg-type]  # what has no float raises
    except (TypeError, ValueError, RuntimeError):  # the last one of tensors
        number = float("nan")
    if not (isfinite(number) and number >= 0):
        raise FreezeError(f"{name} is {value!r:.80}, expected a finite number of at least 0")


def name_apart(groups: Sequence[dict[str, Any]]) -> None:  # Any: the type of torch's groups
    """Number groups of one name, as a stage can have several: loggers refuse two of the same.

    Example:
        >>> groups = [{"name": "stem"}, {"name": "layer1"}, {"name": "layer1"}]
        >>> name_apart(groups)
        >>> [group["name"] for group in groups]
        ['stem', 'layer1', 'layer1 (2)']
    """
    seen: dict[str, int] = {}
    for group in groups:
        name = group["name"]
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            group["name"] = f"{name} ({seen[name]})"


def _group(
    name: str, scale: float, decays: bool, lr: float, weight_decay: float
) -> dict[str, Any]:  # Any: the type of torch's parameter groups
    return {
        "params": [],
        "lr": lr * scale,
        "weight_decay": weight_decay if decays else 0.0,
        "name": name + ("" if decays else ", no decay"),
        MULTIPLIER: scale,
    }


def _decays(backbone: Backbone) -> set[str]:
    """Return the names of the parameters that get weight decay."""
    without = _without_decay(backbone)
    return {
        name
        for name, parameter in backbone.model.named_parameters()
        if parameter.ndim > 1 and not name.endswith(".bias") and name not in without
    }


def _without_decay(backbone: Backbone) -> set[str]:
    """Return the parameters of norms, and those in the `no_weight_decay` of timm's models."""
    found = {name for norm in backbone.norms for name in norm.parameters}
    for prefix, module in backbone.model.named_modules():
        listed = getattr(module, "no_weight_decay", None)
        with suppress(TypeError):  # an unrelated attribute of that name
            names = listed() if callable(listed) else listed
            found.update(f"{prefix}.{name}" if prefix else str(name) for name in names or ())
    return found
