"""The checks of one phase of a schedule, and what they say together of all phases."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from freezekit.verify.checks import fixed_statistics, frozen_weights, gradients, parameter_groups
from freezekit.verify.claims import claims_of_plan
from freezekit.verify.isolation import copy_with
from freezekit.verify.modes import same_in_train_and_eval
from freezekit.verify.plain_statistics import moved_plain_tensors
from freezekit.verify.ranks import equal_on_all_ranks
from freezekit.verify.records import Check, VerifiedPhase
from freezekit.verify.training import reached_when_thawed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from freezekit.verify.live import Live
    from freezekit.verify.training import TrainedCopy

_HELD = {
    "frozen-weights": "what is frozen kept every bit",
    "fixed-statistics": "buffers of frozen modules kept every bit",
    "same-in-train-and-eval": "frozen modules are the same in both modes",
    "gradients": "all trained parameters got a finite gradient",
    "parameter-groups": "each trained parameter is in one group",
    "learning-rates": "the rates follow the multipliers",
    "equal-on-all-ranks": "the same bits on all ranks after each step",
}
"""What checks say that passed in several phases, with other numbers in each."""


class PhaseChecks:
    """The checks of a phase, from its first step to its last.

    What a change of plan would hide is checked after each step.
    """

    def __init__(self, live: Live, spec: str, begins_step: int, steps_per_epoch: int) -> None:
        self.spec, self.plan = spec, live.run.plan
        self._begins_step, self._steps_per_epoch = begins_step, steps_per_epoch
        self._claims = claims_of_plan(live.backbone, live.run.plan)
        self._reference: nn.Module | None = copy_with(live.model)[0]
        self._trained: TrainedCopy | None = None
        self._moved: tuple[str, ...] = ()
        self._steps = 0
        self._found: dict[str, Check] = {}
        self._add(same_in_train_and_eval(copy_with(live.model)[0], live.task, self._claims))

    def step(self, live: Live) -> None:
        """Train one step, and check what can be checked now."""
        assert self._reference is not None  # until the end
        claims, reference = self._claims, self._reference

        def make_copy() -> nn.Module:
            model: nn.Module = copy_with(reference)[0]
            return model

        def make_used_copy() -> nn.Module:
            model = make_copy()
            with torch.no_grad():
                live.task.forward(model.eval())
            return model

        self._add(live.learning_rates(claims))
        self._trained = _joined(self._trained, live.step(claims.trained))
        self._steps += 1
        if self._steps == 1:  # what moves does so in each step
            self._moved = moved_plain_tensors(reference, live.model, claims, live.task, make_copy)
        self._add(frozen_weights(reference, self._trained, claims, ()))
        statistics = fixed_statistics(reference, self._trained, claims, make_used_copy, self._moved)
        self._add(statistics)
        unscaled = replace(claims, lr_scales={})  # `learning_rates` knows what they are
        self._add(parameter_groups(self._trained, unscaled, is_users=False, all_phases=True))
        if (on_ranks := equal_on_all_ranks(live.model, claims)) is not None:
            self._add(on_ranks)

    def end(self, live: Live) -> None:
        """Check what all steps of the phase say together."""
        assert self._trained is not None  # a phase has a step

        def reached(names: list[str]) -> set[str]:
            return reached_when_thawed(copy_with(live.model)[0], live.task, names)

        self._add(gradients(self._trained, self._claims, reached))
        self._trained = self._reference = None  # they hold copies

    def done(self) -> VerifiedPhase:
        """Return what was found."""
        return VerifiedPhase(
            self.spec,
            self._begins_step,
            self._begins_step / self._steps_per_epoch,
            self._steps,
            len(self._claims.trained),
            len(self._claims.frozen),
            self.checks,
        )

    @property
    def checks(self) -> tuple[Check, ...]:
        """One check of each name: the first that failed, or else the last."""
        return tuple(self._found.values())

    def _add(self, check: Check) -> None:
        before = self._found.get(check.name)
        if before is None or before.passed:
            self._found[check.name] = check


def summary(phases: Sequence[PhaseChecks]) -> list[Check]:
    """Return one check of each name for all phases."""
    names = dict.fromkeys(check.name for phase in phases for check in phase.checks)
    return [
        together([next(c for c in phase.checks if c.name == name) for phase in phases])
        for name in names
    ]


def together(checks: Sequence[Check]) -> Check:
    """Return what the checks of one name in all phases say together.

    Example:
        >>> together([Check("resume", True, "all"), Check("resume", True, "all")]).detail
        'all, in each phase'
        >>> together([Check("resume", True, "all"), Check("resume", False, "1 off")]).detail
        'phase 2: 1 off'
    """
    failed = [i for i, check in enumerate(checks) if not check.passed]
    if failed:
        first, *others = failed
        detail = f"phase {first + 1}: {checks[first].detail}"
        if others:
            numbers = ", ".join(str(i + 1) for i in others)
            detail += f"; also in phase{'s' * (len(others) > 1)} {numbers}"
        return replace(checks[first], detail=detail)
    one = checks[0]
    if len(checks) == 1:
        return one
    if len({check.detail for check in checks}) == 1:
        return replace(one, detail=f"{one.detail}, in each phase")
    detail = _HELD.get(one.name, one.detail)
    # After a semicolon stands what is no fault, and should be known.
    rests = {i: check.detail.partition("; ")[2] for i, check in enumerate(checks, start=1)}
    detail += "".join([f"; phase {i}: {rest}" for i, rest in rests.items() if rest][:1])
    return replace(one, detail=detail)


def _joined(one: TrainedCopy | None, other: TrainedCopy) -> TrainedCopy:
    if one is None:
        return other
    finite = {**one.finite, **other.finite}
    finite = {name: one.finite.get(name, True) and good for name, good in finite.items()}
    return replace(other, finite=finite, losses=(*one.losses, *other.losses))
