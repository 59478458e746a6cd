"""Parameter groups for an optimizer: learning-rate multipliers, and who goes without decay."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from freezekit.backbone.view import Backbone
    from freezekit.freezing.plan import FreezePlan


def group_parameters(
    backbone: Backbone, plan: FreezePlan, lr: float, weight_decay: float
) -> list[dict[str, Any]]:  # Any: torch's own records
    """Return groups as `Frozen.param_groups` describes them."""
    spared = _without_decay(backbone)
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, parameter in backbone.model.named_parameters():
        if name in plan.frozen or not parameter.requires_grad:
            continue
        scale = plan.lr_scales.get(name, 1.0)
        decays = parameter.ndim > 1 and not name.endswith(".bias") and name not in spared
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
    """Return the parameters of norms, and what models name by timm's `no_weight_decay`."""
    spared = {name for norm in backbone.norms for name in norm.parameters}
    for prefix, module in backbone.model.named_modules():
        said = getattr(module, "no_weight_decay", None)
        with suppress(TypeError):  # somebody's own attribute of that name, and not timm's
            names = said() if callable(said) else said
            spared.update(f"{prefix}.{name}" if prefix else str(name) for name in names or ())
    return spared
