"""What arrives frozen stays frozen: add it to a plan, and say what that means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from freezekit.errors import PlanError, some
from freezekit.freezing.eval_hold import arrival_flags
from freezekit.freezing.plan import FreezePlan, with_warnings
from freezekit.model.records import prefixes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.backbone.view import Backbone

CONTAINERS = nn.Sequential, nn.ModuleList, nn.ModuleDict
"""Modules that say nothing about whether what they hold belongs together."""


def leave_frozen(backbone: Backbone, plan: FreezePlan) -> FreezePlan:
    """Return the plan with what arrived with `requires_grad=False`, with notes and warnings.

    Modules that lie inside what is frozen only together with what arrived frozen are held in eval
    mode too: frozen means frozen, and their statistics would drift.

    Args:
        backbone: The view of the model.
        plan: A plan that `check_plan` returned.

    Raises:
        PlanError: All that the plan trains arrived frozen.

    Example:
        >>> from freezekit import Backbone
        >>> net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1))
        >>> _ = net[0].requires_grad_(False)
        >>> left = leave_frozen(Backbone(net), FreezePlan(eval_modules=()))
        >>> sorted(left.frozen), sorted(left.eval_modules)
        (['0.weight'], ['0'])
    """
    parameters = dict(backbone.model.named_parameters())
    flags = arrival_flags(backbone.model)
    floats = [n for n, p in parameters.items() if p.is_floating_point() or p.is_complex()]
    arrived = [name for name in floats if not flags[name]]
    left = [name for name in arrived if name not in plan.frozen]
    trained = [name for name in floats if name not in plan.frozen and flags[name]]
    if left and not trained:
        raise PlanError(_nothing_left(backbone, plan, left))
    adapters, bases = _adapters(backbone, set(arrived))
    told = [
        *_frozen_adapters([name for name in adapters if name in plan.frozen]),
        *_mostly_frozen(backbone, plan, [name for name in left if name not in bases], trained),
    ]
    if not left:
        return with_warnings(plan, told)
    frozen = plan.frozen.union(left)
    held = backbone.inside(frozen) - backbone.inside(plan.frozen)
    return FreezePlan(
        frozen,
        held.union(plan.eval_modules or ()),
        {name: scale for name, scale in plan.lr_scales.items() if name not in frozen},
        (*plan.notes, f"{_arrived(left)} and {_stay(left)} frozen; {ADVICE}"),
        (*plan.warnings, *told),
    )


ADVICE = "thaw=True trains what the spec does not freeze"


def _arrived(names: Sequence[str]) -> str:
    many = f"{len(names)} parameters" if len(names) > 1 else "1 parameter"
    return f"{many} ({some(names)}) arrived with requires_grad=False"


def _stay(names: Sequence[str]) -> str:
    return "stay" if len(names) > 1 else "stays"


def _nothing_left(backbone: Backbone, plan: FreezePlan, left: Sequence[str]) -> str:
    what = "all that the spec would train of" if plan.frozen else "all of"
    return (
        f"nothing is left to train: {what} {type(backbone.model).__name__} arrived frozen: "
        f"{_arrived(left)}. To train it, give thaw=True to freeze_() or plan(), or set "
        "requires_grad of it to True before"
    )


def _mostly_frozen(
    backbone: Backbone, plan: FreezePlan, left: Sequence[str], trained: Sequence[str]
) -> list[str]:
    """Warn where a spec selects what is trained, and at least half of that arrived frozen.

    The base weights under adapters are not among `left`: they are meant to stay frozen.
    """
    if not plan.frozen or not left or _elements(backbone, left) < _elements(backbone, trained):
        return []
    whole = len(left) + len(trained)
    return [
        f"of {whole} parameters that the spec would train, {_arrived(left)} and {_stay(left)} "
        "frozen; give thaw=True to train them"
    ]


def _adapters(backbone: Backbone, arrived: set[str]) -> tuple[list[str], set[str]]:
    """Return small trainable parameters in modules that are frozen for the rest, and that rest."""
    inside: dict[str, list[str]] = {}
    for name in backbone.parameters:
        for module in prefixes(name):
            inside.setdefault(module, []).append(name)
    modules = dict(backbone.model.named_modules(remove_duplicate=False))
    adapters: set[str] = set()
    bases: set[str] = set()
    for module, names in inside.items():
        base = [name for name in names if name in arrived]
        rest = [name for name in names if name not in arrived]
        if not base or not rest or isinstance(modules[module], CONTAINERS):
            continue
        if _elements(backbone, rest) < _elements(backbone, base):
            adapters.update(rest)
            bases.update(base)
    return [name for name in backbone.parameters if name in adapters], bases


def _frozen_adapters(names: Sequence[str]) -> list[str]:
    if not names:
        return []
    return [
        f"the spec freezes {len(names)} parameter(s) that arrived trainable in modules that are "
        f"frozen for the rest, as adapters such as LoRA are: {some(names)}. To train them, give a "
        "spec that leaves them out, such as 'full'"
    ]


def _elements(backbone: Backbone, names: Sequence[str]) -> int:
    return sum(backbone.parameters[name].numel for name in names)
