"""What is refused or told before a training begins, and not in a phase that comes hours later."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from freezekit.errors import FreezekitError, PluginError, some
from freezekit.freezing.eval_hold import arrival_flags
from freezekit.freezing.plan import FreezePlan
from freezekit.freezing.planning import decide
from freezekit.schedules.optimizers import (
    EVERY,
    check_optimizer,
    group_multipliers,
    trained_groups,
)
from freezekit.spec.progress import Observation

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from freezekit.backbone.view import Backbone
    from freezekit.plugins.registry import Registry
    from freezekit.spec.schedule import Schedule


def check_observes(schedule: Schedule, registry: Registry) -> None:
    """Refuse a schedule that observes what there is not.

    Raises:
        PluginError: It does.
    """
    known, observes, every = get_args(Observation), schedule.observes, schedule.observe_every
    whose = f"schedule {schedule.name!r} ({registry.origin(schedule)})"
    if not isinstance(observes, frozenset) or not observes <= set(known):
        raise PluginError(
            f"{whose} observes {observes!r}, expected a frozenset of some of "
            f"{', '.join(map(repr, known))}"
        )
    if not isinstance(every, int) or every < 1:
        raise PluginError(
            f"{whose} observes every {every!r} steps, expected a whole number above 0"
        )


def check_later_plans(
    backbone: Backbone,
    schedule: Schedule,
    optimizer: Optimizer,
    registry: Registry,
    *,
    thaw: bool,
) -> None:
    """Refuse what the model or the optimizer would refuse in a later phase that is known now.

    Raises:
        FreezekitError: A plan cannot be made, or cannot be trained.
    """
    for given in schedule.plans():
        try:
            plan = decide(backbone, given, registry, thaw=thaw)
            check_optimizer(optimizer, backbone.model, plan)
            group_multipliers(optimizer, trained_groups(optimizer, backbone, plan), {})
        except FreezekitError as error:
            what = "a later phase" if isinstance(given, FreezePlan) else f"the phase {given!s:.80}"
            raise type(error)(f"{what}: {error}") from error


def missing_parameters(backbone: Backbone, optimizer: Optimizer, *, thaw: bool) -> str:
    """Return a warning of parameters that no later phase could train; "" if there are none."""
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    arrived = arrival_flags(backbone.model)
    missing = [
        name
        for name, p in backbone.model.named_parameters()
        if p.is_floating_point() and id(p) not in held and (arrived[name] or thaw)
    ]
    if not missing:
        return ""
    return (
        f"the {type(optimizer).__name__} does not hold {len(missing)} parameter(s): "
        f"{some(missing)}. A phase that trains them will be refused; make it of frozen.{EVERY}"
    )
