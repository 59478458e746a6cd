"""Stages that depend on later ones are merged, as the graph of a real forward pass shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.errors import StagingError, some
from freezekit.model.records import prefixes
from freezekit.staging.assigning import Assignment, assign
from freezekit.staging.decisions import Dependence
from freezekit.staging.grouping import Group, merged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from freezekit.staging.trace import Trace


def find_dependence(
    model: nn.Module, trace: Trace, assigned: Assignment, stages: int
) -> Dependence | None:
    """Return the first stage with an output that depends on a later one; None if there is none.

    Without such a stage, freezing the first stages, however many, leaves no gradient to compute in
    them.
    """
    masks = [0] * stages
    for name, _ in model.named_parameters():
        masks[assigned.tensors[name]] |= trace.flow.mask(name)
    frozen_with = _frozen_with(model, assigned)
    for call in trace.calls:
        at = frozen_with.get(call.module)
        for later in reversed(range(stages if at is None else at + 1, stages)):
            if needed := call.reach & masks[later]:
                parameter = trace.flow.names(needed)[0]
                return Dependence(frozen_with[call.module], later, call.module, parameter)
    return None


def merge(
    model: nn.Module, trace: Trace, groups: Sequence[Group], assigned: Assignment, found: Dependence
) -> tuple[Sequence[Group], Assignment]:
    """Make one group of those that a dependence spans, and assign everything again.

    Raises:
        StagingError: It spans all of them.
    """
    first, last = found.first, found.last
    if first == 0 and last == len(groups) - 1:
        raise StagingError(
            f"{type(model).__name__} has no order that makes sense: what it uses first depends "
            f"on what it uses last: {some(_names_in(assigned, first))} on "
            f"{some(_names_in(assigned, last))}; name its "
            "stages with a plugin's freezekit_stages hook"
        )
    groups = [*groups[:first], merged(groups[first : last + 1]), *groups[last + 1 :]]
    late = {
        name: at if at <= first else max(first, at - (last - first))
        for name, at in assigned.tensors.items()
        if name not in trace.uses
    }
    return groups, assign(model, trace, groups, late)


def _names_in(assigned: Assignment, at: int) -> list[str]:
    return [name for name, stage in assigned.tensors.items() if stage == at]


def _frozen_with(model: nn.Module, assigned: Assignment) -> dict[str, int]:
    """Return, for each module, the stage with which it becomes frozen.

    A module is frozen once all parameters of it, or of a module around it, are frozen, or once the
    stage that it is assigned to is. The model itself never is.
    """
    last: dict[str, int] = {}
    for name, _ in model.named_parameters():
        at = assigned.tensors[name]
        for around in prefixes(name):
            last[around] = max(at, last.get(around, 0))
    found = {}
    for name, _ in model.named_modules():
        stages = [last[around] for around in (*prefixes(name), name) if around in last]
        stages += [assigned.modules[name]] if name in assigned.modules else []
        if stages and name:
            found[name] = min(stages)
    return found
