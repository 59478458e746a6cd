"""The one act that changes a live training: another plan, in the optimizer and on all ranks too."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from freezekit.errors import FreezeError, some
from freezekit.freezing.apply import can_train, exchange
from freezekit.freezing.departures import look, warning
from freezekit.freezing.eval_hold import RECORD
from freezekit.freezing.planning import warn
from freezekit.schedules.agreement import agree, has_other_ranks
from freezekit.schedules.between_steps import check_between_steps
from freezekit.schedules.optimizers import (
    check_optimizer,
    check_scheduled,
    check_schedulers,
    drop_moments,
    group_multipliers,
    trained_groups,
)
from freezekit.schedules.rates import set_multipliers
from freezekit.schedules.reducer import broadcast_held, check_wrapper, rebuild_, wrappers_of
from freezekit.schedules.sharded import check_sharded, reshard_

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn
    from torch.nn.parallel import DistributedDataParallel
    from torch.optim import Optimizer

    from freezekit.backbone.view import Backbone
    from freezekit.freezing.eval_hold import Record
    from freezekit.freezing.plan import FreezePlan

Moments = Literal["keep", "drop"]


@dataclass(frozen=True)
class Change:
    """What a change of plan froze and thawed.

    Attributes:
        frozen: Names of the parameters that are frozen now and were trained before.
        thawed: Names of those that are trained now and were frozen before.
        plan: The plan in force from now on.
    """

    frozen: tuple[str, ...]
    thawed: tuple[str, ...]
    plan: FreezePlan = field(repr=False)

    def __bool__(self) -> bool:
        return bool(self.frozen or self.thawed)


@dataclass(frozen=True)
class Training:
    """What trains a model, beside the model itself.

    Attributes:
        optimizer: None where only the model changes.
        schedulers: The learning-rate schedulers of the optimizer.
        ddp: The DistributedDataParallel around the model, or None.
        moments: What becomes of the optimizer's state of a parameter that is frozen: "keep" it, so
            that a later thaw goes on with it, or "drop" it, so that a thaw begins anew.
    """

    optimizer: Optimizer | None = None
    schedulers: Sequence[Any] = ()  # Any: torch's, timm's and others have no common class
    ddp: DistributedDataParallel | None = None
    moments: Moments = "keep"


def check_training(backbone: Backbone, training: Training) -> None:
    """Refuse what does not train this model, before anything is changed.

    Raises:
        FreezeError: The model is in a forward or backward pass, the wrapper, the schedulers or
            `moments` do not fit, or a wrapper around the model was not given.
    """
    check_between_steps(backbone.model)  # first: to make a plan can run the model's own hooks
    if training.moments not in ("keep", "drop"):
        raise FreezeError(f"moments is {training.moments!r}, expected 'keep' or 'drop'")
    if training.ddp is not None:
        check_wrapper(training.ddp, backbone.model)
    elif has_other_ranks(None) and any(True for _ in wrappers_of(backbone.model)):
        raise FreezeError(
            f"this {type(backbone.model).__name__} is wrapped in DistributedDataParallel, which "
            "must learn what is trained now, or its ranks drift apart: give it as ddp="
        )
    if training.optimizer is not None:
        check_schedulers(training.optimizer, training.schedulers)


def change(
    backbone: Backbone,
    plan: FreezePlan,
    training: Training,
    rates: Mapping[str, float] | None = None,
) -> Change:
    """Put another plan in force on a frozen model in training. On an error nothing has changed.

    Args:
        backbone: The view of the model, which must be frozen.
        plan: The new plan, as `freezekit.freezing.planning.decide` returns it.
        training: What trains the model; `check_training` has accepted it.
        rates: Factors of the learning rate beside the plan's multipliers, by the name of a stage.

    Raises:
        FreezeError: The model has other parameters than when it was frozen, or the
            optimizer cannot train what the plan trains. Or ranks disagree.
    """
    model, optimizer, ddp = backbone.model, training.optimizer, training.ddp
    check_between_steps(model)
    check_sharded(model)
    reshard_(model)  # the optimizer holds the shards, and flags of whole parameters are lost
    record: Record = model.__dict__[RECORD]
    before = record.plan
    _check_departures(backbone, before)
    if ddp is not None:
        check_wrapper(ddp, model)
    wanted = {}
    if optimizer is not None:
        optimizer = check_optimizer(optimizer, model, plan)
        groups = trained_groups(optimizer, backbone, plan)
        wanted = group_multipliers(optimizer, groups, rates or {})
        check_scheduled(optimizer, training.schedulers, wanted)
    group = None if ddp is None else ddp.process_group
    agree("a change of plan", {"plan": plan.to_json()}, group)
    flags = _flags(model)
    newly_held = (plan.eval_modules or frozenset()) - (before.eval_modules or frozenset())
    if has_other_ranks(group):  # while a failure has changed nothing else
        broadcast_held(model, newly_held, group)
    put_in_force(backbone, plan, ddp)
    now = _flags(model)
    frozen = tuple(name for name, flag in flags.items() if flag and not now[name])
    if optimizer is not None:
        set_multipliers(optimizer, training.schedulers, wanted)
        if training.moments == "drop":
            parameters = dict(model.named_parameters())
            drop_moments(optimizer, [parameters[name] for name in frozen])
    return Change(frozen, tuple(n for n, flag in now.items() if flag and not flags[n]), plan)


def put_in_force(backbone: Backbone, plan: FreezePlan, ddp: DistributedDataParallel | None) -> None:
    """Set flags and modes, and let the wrapper reduce what is trained now.

    On an error nothing has changed. Optimizers and buffers are left as they are.
    """
    model = backbone.model
    record: Record = model.__dict__[RECORD]
    before = record.plan
    flags = _flags(model)
    exchange(model, plan)
    if ddp is None or _flags(model) == flags:
        return
    try:
        rebuild_(ddp)
    except BaseException:
        exchange(model, before)
        rebuild_(ddp)
        raise


def _flags(model: nn.Module) -> dict[str, bool]:
    return {name: p.requires_grad for name, p in model.named_parameters()}


def _check_departures(backbone: Backbone, plan: FreezePlan) -> None:
    """Warn of flags changed by hand, which the new plan sets; refuse other parameters.

    Raises:
        FreezeError: The model has other parameters than when it was frozen.
    """
    model = backbone.model
    then = {name: info.shape for name, info in backbone.parameters.items()}
    now = {n: tuple(p.shape) for n, p in model.named_parameters() if n in then or can_train(p)}
    if then != now:
        names = sorted(n for n in then.keys() | now.keys() if then.get(n) != now.get(n))
        raise FreezeError(
            f"this {type(model).__name__} has other parameters than when it was frozen: "
            f"{some(names)}. Call freeze_() again, and make the optimizer anew"
        )
    if departures := look(backbone, plan).departures:
        warn([warning(departures)], stacklevel=4)
