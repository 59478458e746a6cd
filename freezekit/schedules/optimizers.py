"""What an optimizer must be like to go through all phases, and how one that is not is told."""

from __future__ import annotations

import inspect
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from freezekit.backbone.staged import stages_or_reason
from freezekit.errors import FreezeError, some
from freezekit.schedules.rates import SCHEDULED, multiplier

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from freezekit.backbone.view import Backbone
    from freezekit.freezing.plan import FreezePlan

Scale = tuple[float, str]
"""The multiplier that the plan gives a parameter, and the name of its stage ("" if none)."""
EVERY = "param_groups(lr, weight_decay, all_phases=True)"


def check_optimizer(optimizer: object, model: nn.Module, plan: FreezePlan) -> Optimizer:
    """Return the optimizer, if the plan can be put in force under it.

    Raises:
        FreezeError: It is no optimizer, does not hold all that the plan trains, or would move what
            is frozen.
    """
    if not isinstance(optimizer, Optimizer):
        raise FreezeError(
            f"optimizer is {type(optimizer).__name__} {optimizer!r:.80}, expected a "
            f"torch.optim.Optimizer such as torch.optim.AdamW(frozen.{EVERY})"
        )
    kind = type(optimizer).__name__
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    parameters = dict(model.named_parameters())
    if not any(id(p) in held for p in parameters.values()):
        raise FreezeError(
            f"this {kind} holds no parameter of this {type(model).__name__}: it was made for "
            "another model, for a copy, or before the model was sharded or given other parameters; "
            f"make it of frozen.{EVERY}"
        )
    missing = [n for n, p in parameters.items() if n not in plan.frozen and id(p) not in held]
    missing = [n for n in missing if parameters[n].is_floating_point()]
    if missing:
        raise FreezeError(
            f"this {kind} does not hold {len(missing)} parameter(s) that the plan trains: "
            f"{some(missing)}. They would never move. Make it of frozen.{EVERY}, which registers "
            "every parameter once; what is frozen has no gradient, and the optimizer leaves it"
        )
    if frozen_moves(_core(optimizer)):
        raise FreezeError(
            f"{kind} moves parameters that have no gradient, so that frozen ones would not stay; "
            "use an optimizer that skips them, as torch.optim.AdamW and SGD do"
        )
    return optimizer


def check_schedulers(optimizer: Optimizer, schedulers: Sequence[object]) -> None:
    """Refuse schedulers of another optimizer.

    Raises:
        FreezeError: There is one.
    """
    for scheduler in schedulers:
        if not callable(getattr(scheduler, "step", None)):
            raise FreezeError(
                f"schedulers has {scheduler!r:.80}, expected learning-rate schedulers, as in "
                "schedulers=[scheduler]"
            )
        its = getattr(scheduler, "optimizer", optimizer)
        if _core(its) is not _core(optimizer):
            raise FreezeError(
                f"{type(scheduler).__name__} in schedulers= sets the rates of another optimizer; "
                "give the schedulers of this optimizer only"
            )


def check_scheduled(
    optimizer: Optimizer, schedulers: Sequence[object], wanted: Mapping[int, float]
) -> None:
    """Refuse to change rates that a scheduler sets which was not given.

    Raises:
        FreezeError: A multiplier changes, a scheduler is attached, and `schedulers` is empty.
    """
    changed = [i for i, v in wanted.items() if multiplier(optimizer.param_groups[i]) != v]
    if changed and not schedulers and SCHEDULED in optimizer.param_groups[changed[0]]:
        raise FreezeError(
            "the plan changes multipliers of learning rates, and a learning-rate scheduler is "
            "attached to the optimizer, whose base rates must change with them; give it too: "
            "schedulers=[scheduler]"
        )


def trained_groups(
    optimizer: Optimizer, backbone: Backbone, plan: FreezePlan
) -> dict[int, dict[Scale, str]]:
    """Return, for each group with trained parameters, how these are scaled, with one name of each.

    To look names up takes longer than a step should: what is returned stays true as long as the
    plan and the groups do.
    """
    name_of = {id(p): n for n, p in backbone.model.named_parameters()}
    stages, _ = stages_or_reason(backbone)
    stage_of = {n: stage.name for stage in stages or () for n in stage.parameters}
    groups: dict[int, dict[Scale, str]] = {}
    for index, group in enumerate(optimizer.param_groups):
        for parameter in group["params"]:
            name = name_of.get(id(parameter))
            if name is not None and name not in plan.frozen:
                scale = plan.lr_scales.get(name, 1.0), stage_of.get(name, "")
                groups.setdefault(index, {})[scale] = name
    return groups


def group_multipliers(
    optimizer: Optimizer, groups: Mapping[int, Mapping[Scale, str]], rates: Mapping[str, float]
) -> dict[int, float]:
    """Return the multiplier of each group in which a parameter of the model is trained.

    Args:
        optimizer: The optimizer.
        groups: As `trained_groups` returns them.
        rates: Factors beside the multipliers of the plan, by the name of a stage; 1 where it is
            missing.

    Raises:
        FreezeError: A group holds trained parameters with different multipliers.
    """
    wanted = {}
    for index, scales in groups.items():
        names = {scale * rates.get(stage, 1.0): name for (scale, stage), name in scales.items()}
        if len(names) > 1:
            (one, first), (other, second), *_ = sorted(names.items())
            group = optimizer.param_groups[index].get("name", index)
            raise FreezeError(
                f"one group of the optimizer ({group!r}) holds parameters with "
                f"different multipliers under the plan: {first!r} x {one:.4g} and {second!r} x "
                f"{other:.4g}. Make the optimizer of frozen.param_groups(lr, weight_decay, "
                "all_phases=True), or, where a plan gives one stage several multipliers, with the "
                "text of the schedule or the specs of all phases in place of True"
            )
        wanted[index] = next(iter(names))
    return wanted


def drop_moments(optimizer: Optimizer, parameters: Sequence[Tensor]) -> None:
    """Forget the state of parameters, by identity."""
    core = _core(optimizer)
    for parameter in parameters:
        core.state.pop(parameter, None)


def hooked(optimizer: Optimizer) -> Optimizer | None:
    """Return the optimizer, or the one inside it, whose `step` runs hooks; None if none does.

    timm's Lookahead has the methods of hooks, and does not run them.
    """
    core = _core(optimizer)
    return core if getattr(type(core).step, "hooked", False) else None


def _core(optimizer: Any) -> Optimizer:  # Any: wrappers have no common class
    """Return the innermost optimizer, as inside timm's Lookahead or a trainer's wrapper."""
    while True:
        names = "_base_optimizer", "optimizer", "base_optimizer"  # timm's, trainers', SAM's
        inner = next((found for n in names if (found := getattr(optimizer, n, None))), None)
        if not isinstance(inner, Optimizer) or inner is optimizer:
            return optimizer  # type: ignore[no-any-return]  # an Optimizer, as the caller checked
        optimizer = inner


def frozen_moves(optimizer: Optimizer) -> bool:
    """Tell whether an optimizer of this class moves a parameter that has lost its gradient.

    It is tried on two small tensors, with the same settings. A class that cannot be made of
    parameters and its settings alone is taken not to move them; `verify` finds it if it does.

    Example:
        >>> weight = nn.Parameter(torch.ones(1))
        >>> frozen_moves(torch.optim.SGD([weight])), frozen_moves(torch.optim.LBFGS([weight]))
        (False, True)
    """
    cls = type(optimizer)
    used = dict(optimizer.defaults)
    for group in optimizer.param_groups:  # weight decay mostly stands there alone
        used |= {name: value for name, value in group.items() if name in used and value}
    settings = tuple(
        (name, value)
        for name, value in used.items()
        if isinstance(value, (bool, int, float, str, tuple, type(None)))
    )
    try:
        return _moves(cls, settings)  # type: ignore[arg-type]  # classes can be hashed
    except TypeError:  # a setting that cannot be hashed
        return False


@cache
def _moves(cls: type[Optimizer], settings: tuple[tuple[str, Any], ...]) -> bool:  # Any: numbers
    known = inspect.signature(cls).parameters
    values = {name: value for name, value in settings if name in known}
    trained, frozen = (nn.Parameter(torch.ones(2, 2, device="cpu")) for _ in range(2))
    try:
        optimizer = cls([trained, frozen], **values)
        for _ in range(2):
            trained.grad, frozen.grad = torch.ones_like(trained), torch.ones_like(frozen)
            optimizer.step(lambda: 1.0)
        frozen.grad = None
        before = frozen.detach().clone()
        for _ in range(2):
            trained.grad = torch.ones_like(trained)
            optimizer.step(lambda: 1.0)
    except Exception:  # noqa: BLE001  # a class that needs more than parameters and numbers
        return False
    return not torch.equal(before, frozen)
