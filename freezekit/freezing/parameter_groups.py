"""Parameter groups for an optimizer: by learning-rate multiplier, with and without weight decay."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from freezekit.backbone.view import Backbone
    from freezekit.freezing.plan import FreezePlan


def group_parameters(
    backbone: Backbone, plan: FreezePlan, lr: float, weight_decay: float
) -> list[dict[str, Any]]:  # Any: the type of torch's parameter groups
    """Return groups as `Frozen.param_groups` describes them."""
    without_decay = _without_decay(backbone)
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, parameter in backbone.model.named_parameters():
        if name in plan.frozen or not parameter.requires_grad:
            continue
        scale = plan.lr_scales.get(name, 1.0)
        decays = parameter.ndim > 1 and not name.endswith(".bias") and name not in without_decay
        group = groups.setdefault(
            (scale, decays),
            {
                "params": [],
                "lr": lr * scale,
                "weight_decay": weight_decay if decays else 0.0,
                "name": f"lr x {scale:.4g}" + ("" if decays else ", no decay"),
            },
        )
        group["params"].append(parameter)
    return [groups[key] for key in sorted(groups, key=lambda k: (k[0], not k[1]))]


def _without_decay(backbone: Backbone) -> set[str]:
    """Return the parameters of norms, and those in the `no_weight_decay` of timm's models."""
    found = {name for norm in backbone.norms for name in norm.parameters}
    for prefix, module in backbone.model.named_modules():
        listed = getattr(module, "no_weight_decay", None)
        with suppress(TypeError):  # an unrelated attribute of that name
            names = listed() if callable(listed) else listed
            found.update(f"{prefix}.{name}" if prefix else str(name) for name in names or ())
    return found
