"""The factors of learning rates by stage that a schedule asks for, in a live training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.errors import ScheduleError
from freezekit.freezing.parameter_groups import MULTIPLIER
from freezekit.schedules.optimizers import check_scheduled, group_multipliers, trained_groups
from freezekit.schedules.rates import multiplier, set_multipliers
from freezekit.schedules.sharded import reshard_

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch.optim import Optimizer

    from freezekit.backbone.view import Backbone
    from freezekit.freezing.plan import FreezePlan
    from freezekit.schedules.change import Training
    from freezekit.schedules.optimizers import Scale


class LiveRates:
    """Factors of learning rates, which a schedule may change in each step.

    Attributes:
        factors: By the name of a stage, beside the multipliers of the plan. None: not known, as
            another schedule may have set them before.
    """

    def __init__(self, backbone: Backbone, optimizer: Optimizer, training: Training) -> None:
        self.factors: Mapping[str, float] | None = None
        self._backbone = backbone
        self._optimizer = optimizer
        self._training = training
        self._groups: dict[int, dict[Scale, str]] = {}
        self._groups_of: tuple[FreezePlan, int] | None = None  # for which plan and group count
        self._expected: dict[int, float] | None = None  # multipliers of a state that was loaded

    def set(self, factors: Mapping[str, float], plan: FreezePlan) -> None:
        """Let factors act on the parameters that a plan trains. On an error nothing has changed."""
        if factors == self.factors:
            return
        of = plan, len(self._optimizer.param_groups)
        if self._groups_of != of:
            reshard_(self._backbone.model)  # the optimizer holds the shards
            self._groups = trained_groups(self._optimizer, self._backbone, plan)
            self._groups_of = of
        wanted = group_multipliers(self._optimizer, self._groups, factors)
        check_scheduled(self._optimizer, self._training.schedulers, wanted)
        set_multipliers(self._optimizer, self._training.schedulers, wanted)
        self.are(factors)

    def are(self, factors: Mapping[str, float]) -> None:
        """Say which factors are in force; the schedule may write into its own mapping later."""
        self.factors = dict(factors)

    def problem(self) -> str:
        """Return what is wrong where other code sets the learning rates; "" if nothing."""
        rates: dict[float, float] = {}
        for group in self._optimizer.param_groups:
            scale, rate = multiplier(group), float(group["lr"])
            if rate and rates.setdefault(rate, scale) != scale:
                return (
                    f"groups of the optimizer with the multipliers {rates[rate]:.3g} and "
                    f"{scale:.3g} have the same learning rate, {rate:.3g}: other code sets it, and "
                    "undoes what the schedule decides. Give its scheduler to follow(), or set "
                    f"group['lr'] = rate * group.get({MULTIPLIER!r}, 1)"
                )
        return ""

    def multipliers(self) -> dict[int, float]:
        """Return the multiplier of each group, by its index."""
        return {i: multiplier(group) for i, group in enumerate(self._optimizer.param_groups)}

    def expect(self, factors: Mapping[str, float], multipliers: Mapping[int, float]) -> None:
        """Take factors of a state, and wait for the optimizer's state with their multipliers."""
        self.factors = dict(factors)
        self._expected = {int(index): float(value) for index, value in multipliers.items()}

    def check_expected(self) -> None:
        """Refuse an optimizer whose state was not loaded with that of the schedule.

        Raises:
            ScheduleError: It was not.
        """
        if self._expected is not None and self._expected != self.multipliers():
            raise ScheduleError(
                "the optimizer has other multipliers of learning rates than in the state of the "
                "schedule: load the optimizer's state of the same checkpoint too, after follow()"
            )
        self._expected = None
