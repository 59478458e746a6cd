"""Stages: the ordered, complete and disjoint partition of a model's parameters and buffers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from freezekit.errors import StagingError, some
from freezekit.model.nested import shapes_text
from freezekit.model.records import Stage
from freezekit.staging.anatomy import Anatomy
from freezekit.staging.assigning import Assignment, assign, assign_late, assign_unused
from freezekit.staging.decisions import LateUse, Merge
from freezekit.staging.grouping import Group, Grouping, group_name, group_units, merged
from freezekit.staging.layers import find_layers
from freezekit.staging.merging import find_dependence, merge
from freezekit.staging.observing import observe, observe_input
from freezekit.staging.partition import check_stages

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import nn

    from freezekit.staging.trace import Trace

_TEACH = "name its stages with a plugin's freezekit_stages hook"

LEAST_GROUPS = 2
"""Groups with parameters in them that a model needs: what to freeze, and what to train."""


@dataclass(frozen=True)
class Staging:
    """The stages of a model with all that was decided on the way to them.

    Where the model cannot be staged, what was decided before that is kept, and the rest is empty.

    Attributes:
        input_text: Shape of the input that the model was observed with.
        grouping: The model divided into groups.
        late: Parameters that eval mode does not use, and the group that each was given to.
        merges: Groups that became one because of a dependence, in the order of the merges.
        groups: The groups after the merges: one for each stage.
        stages: The stages.
        layers: The parameters of each layer, finer than stages, as in `find_layers`.
        error: Why the model cannot be staged; None if it can.
    """

    input_text: str = ""
    grouping: Grouping | None = None
    late: tuple[LateUse, ...] = ()
    merges: tuple[Merge, ...] = ()
    groups: tuple[Group, ...] = ()
    stages: tuple[Stage, ...] = ()
    layers: tuple[tuple[str, ...], ...] = ()
    error: StagingError | None = None


def find_stages(
    model: nn.Module,
    example_input: Any = None,  # Any: whatever the model's forward takes
) -> tuple[Stage, ...]:
    """Return stem, body stages in execution order, neck if there is one, and head.

    The order is observed in one forward of a copy, mostly on `meta`, where it costs no memory; the
    model is not touched. Body stages begin where the resolution goes down; a model that keeps its
    resolution, such as a vision transformer, has one stage per block.

    Args:
        model: Any module that maps images to something.
        example_input: A batch as its forward takes it, such as a tensor of shape (batch, 3, height,
            width); a tuple is taken as several arguments, a dict as keyword arguments. Needed
            where the model does not take an image of a usual size.

    Parameters that the forward does not use are in the stage of what is registered before them.

    Raises:
        StagingError: The model refuses the input, or has no layers in sequence. The message says
            what to do.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(
        ...     nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.ReLU(),
        ...     nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
        >>> for stage in find_stages(net):
        ...     print(stage.name, stage.parameters)
        stem ('0.weight', '0.bias')
        2-4 ('3.weight', '3.bias')
        head ('7.weight', '7.bias')
    """
    found = stage_model(model, example_input)
    if found.error is not None:
        raise found.error
    return found.stages


def stage_model(
    model: nn.Module,
    example_input: Any = None,  # Any: whatever the model's forward takes
) -> Staging:
    """Return the stages of a model and how they were found; errors of staging are in the answer.

    Args:
        model: As in `find_stages`.
        example_input: As in `find_stages`.

    Example:
        >>> from torch import nn
        >>> found = stage_model(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 2, 3)))
        >>> found.grouping.begin.partition(",")[0]
        'no unit between the first layer and the classifier is a block'
    """
    found = Staging()
    if next(model.parameters(), None) is None:
        none = f"{type(model).__name__} has no parameters: nothing to stage or freeze"
        return replace(found, error=StagingError(none))
    try:
        trace, given = observe_input(model, example_input)
        found = replace(found, input_text=shapes_text(given))
        grouping = group_units(Anatomy(model, trace), trace.output.area)
        found = replace(found, grouping=grouping, groups=grouping.groups)
        _check_groups(model, grouping.groups)
        assigned = assign(model, trace, found.groups, {})
        unused = [name for name, _ in model.named_parameters() if name not in assigned.tensors]
        if unused:
            late = _unused_in_eval(model, example_input, trace, assigned, unused)
            found = replace(found, late=late)
            assigned = assign(model, trace, found.groups, {use.name: use.stage for use in late})
        while need := find_dependence(model, trace, assigned, len(found.groups)):
            apart = found.groups[need.first : need.last + 1]
            names = tuple(map(group_name, apart))
            result = group_name(merged(apart)) if len(apart) < len(found.groups) else ""
            one = Merge(names, result, need.consumer, need.parameter)
            found = replace(found, merges=(*found.merges, one))
            groups, assigned = merge(model, trace, found.groups, assigned, need)
            found = replace(found, groups=tuple(groups))
        stages = check_stages(model, _stages_of(model, found.groups, assigned))
        return replace(found, stages=stages, layers=find_layers(model, stages, trace))
    except StagingError as error:
        return replace(found, error=error)


def _check_groups(model: nn.Module, groups: Sequence[Group]) -> None:
    held = sum(any(unit.kind != "op" for unit in group.units) for group in groups)
    if held < LEAST_GROUPS:
        raise StagingError(
            f"{type(model).__name__} has no layers that follow one another: its forward uses "
            f"{some([p for p, _ in model.named_parameters()])} as one piece; {_TEACH}"
        )


def _stages_of(model: nn.Module, groups: Sequence[Group], assigned: Assignment) -> list[Stage]:
    """Return the groups as stages, by the names of what was assigned to each."""

    def inside(at: int, names: Iterable[str], where: Mapping[str, int]) -> tuple[str, ...]:
        return tuple(name for name in names if where.get(name) == at)

    parameters = [name for name, _ in model.named_parameters()]
    buffers = [name for name, _ in model.named_buffers()]
    modules = [name for name, _ in model.named_modules()]
    return [
        Stage(
            name,
            group.kind,
            inside(at, parameters, assigned.tensors),
            inside(at, buffers, assigned.tensors),
            inside(at, modules, assigned.modules),
            group.resolution,
        )
        for at, (name, group) in enumerate(zip(_names(groups), groups, strict=True))
    ]


def _unused_in_eval(
    model: nn.Module,
    example_input: Any,  # Any: whatever the model's forward takes
    trace: Trace,
    assigned: Assignment,
    unused: Sequence[str],
) -> tuple[LateUse, ...]:
    """Return the stages of parameters that eval mode does not use."""
    try:
        late = assign_late(trace, assigned, unused, observe(model, example_input, training=True))
    except StagingError:
        late = ()
    used = {use.name for use in late}
    never = [name for name in unused if name not in used]
    return (*late, *assign_unused(model, assigned, never))


def _names(groups: Sequence[Group]) -> list[str]:
    """Name the groups; a module that is itself called "head" or "stem" does not take that name."""
    names: list[str] = []
    for group in groups:
        name = group_name(group)
        reserved = group.kind in ("body", "neck") and name in ("stem", "head")
        names.append(group.kind if reserved else name)
    return names
