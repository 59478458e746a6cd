"""The optimizers of a Lightning training, made fit for a plan or for all phases of a schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freezekit.integrations.lightning_trainer import schedulers_of
from freezekit.integrations.regrouping import (
    divide_groups,
    is_grouped,
    places_for,
    set_rate,
)

if TYPE_CHECKING:
    from freezekit.handle.frozen import Frozen
    from freezekit.plugins.registry import Registry
    from freezekit.spec.schedule import Schedule


def fit_optimizers(
    trainer: Any,  # Any: of either package
    frozen: Frozen,
    schedule: Schedule | None,
    registry: Registry,
    *,
    lr: float | None,
    thaw: bool,
) -> None:
    """Set the rate that was given, and divide groups where rates need it.

    Groups that `Frozen.param_groups` made stay. Under a schedule, groups are divided by stage, as
    it may set the rates of stages at any time. Under one plan they stay, if it has no multipliers.

    Raises:
        FreezeError: A rate was given, and the optimizer has its rates from elsewhere.
        SpecError, PlanError: A later plan of the schedule cannot be made.
    """
    places = places_for(frozen, schedule, registry, thaw=thaw)
    for optimizer in trainer.optimizers:
        if lr is not None:
            set_rate(optimizer, lr)
        if places and not is_grouped(optimizer):
            its = [each for each in schedulers_of(trainer) if each.optimizer is optimizer]
            divide_groups(optimizer, its, places)
