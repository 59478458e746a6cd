"""Stages: the ordered, complete and disjoint partition of a model's parameters and buffers."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from freezekit.errors import StagingError, some
from freezekit.model.records import Stage
from freezekit.staging.assigning import Places, place, place_late
from freezekit.staging.grouping import Group, group_name, group_units
from freezekit.staging.merging import cleaned
from freezekit.staging.observing import observe
from freezekit.staging.units import Anatomy

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import nn

    from freezekit.staging.trace import Trace

_TEACH = "name its stages with a plugin's freezekit_stages hook"


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

    Raises:
        StagingError: The model refuses the input, leaves parameters unused, or has no layers in
            sequence. The message says what to do.

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
    if next(model.parameters(), None) is None:
        raise StagingError(f"{type(model).__name__} has no parameters: nothing to stage or freeze")
    trace = observe(model, example_input)
    groups: Sequence[Group] = group_units(Anatomy(model, trace), trace.output.area)
    if sum(any(unit.kind != "light" for unit in group.units) for group in groups) < 2:
        raise StagingError(
            f"{type(model).__name__} has no layers that follow one another: its forward uses "
            f"{some([p for p, _ in model.named_parameters()])} as one piece; {_TEACH}"
        )
    places = place(model, trace, groups, {})
    unused = [name for name, _ in model.named_parameters() if name not in places.tensors]
    if unused:
        late = _used_late(model, example_input, trace, places, unused)
        places = place(model, trace, groups, late)
    groups, places = cleaned(model, trace, groups, places)
    return check_stages(model, _stages_of(model, groups, places))


def _stages_of(model: nn.Module, groups: Sequence[Group], places: Places) -> list[Stage]:
    """Return the groups as stages, by the names of what was placed in each."""

    def inside(at: int, names: Iterable[str], where: Mapping[str, int]) -> tuple[str, ...]:
        return tuple(name for name in names if where.get(name) == at)

    parameters = [name for name, _ in model.named_parameters()]
    buffers = [name for name, _ in model.named_buffers()]
    modules = [name for name, _ in model.named_modules()]
    return [
        Stage(
            name,
            group.kind,
            inside(at, parameters, places.tensors),
            inside(at, buffers, places.tensors),
            inside(at, modules, places.modules),
            group.resolution,
        )
        for at, (name, group) in enumerate(zip(_names(groups), groups, strict=True))
    ]


def _used_late(
    model: nn.Module,
    example_input: Any,  # Any: whatever the model's forward takes
    trace: Trace,
    places: Places,
    unused: Sequence[str],
) -> dict[str, int]:
    """Return the stages of parameters that are used in train mode only.

    Raises:
        StagingError: Some are used in neither mode.
    """
    try:
        late = place_late(trace, places, unused, observe(model, example_input, training=True))
    except StagingError:
        late = {}
    never = [name for name in unused if name not in late]
    if never:
        raise StagingError(
            f"{type(model).__name__} has parameters that belong to no stage, because its forward "
            f"does not use them: {some(never)}; remove them, pass an example_input that uses "
            f"them, or {_TEACH}"
        )
    return late


def check_stages(model: nn.Module, stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """Return the stages if they are an ordered, complete and disjoint partition of the model.

    Args:
        model: The module that they belong to.
        stages: As found, or as a plugin's `freezekit_stages` gave them.

    Raises:
        StagingError: They do not begin with one stem and end with one head, two have the same
            name, or a parameter, persistent buffer or module is missing, unknown or named twice.

    Example:
        >>> from torch import nn
        >>> stages = [Stage("stem", "stem", ("weight",)), Stage("head", "head")]
        >>> try:
        ...     check_stages(nn.Linear(2, 2), stages)
        ... except StagingError as error:
        ...     print(error)
        the stages of Linear are no partition of its parameters: in no stage: 'bias'
    """
    whose = f"the stages of {type(model).__name__}"
    order = [("stem", "body", "neck", "head").index(stage.kind) for stage in stages]
    kinds = [stage.kind for stage in stages]
    if order != sorted(order) or kinds[:1] != ["stem"] or kinds[-1:] != ["head"]:
        raise StagingError(
            f"{whose} are of kinds {kinds!r}, expected 'stem', then 'body' stages, then perhaps "
            "'neck', then 'head'"
        )
    if kinds.count("stem") != 1 or kinds.count("head") != 1:
        raise StagingError(f"{whose} are of kinds {kinds!r}, expected one 'stem' and one 'head'")
    twice = _repeated(stage.name for stage in stages)
    if twice:
        raise StagingError(f"{whose} must have names of their own; twice: {some(twice)}")
    parameters = {name for name, _ in model.named_parameters()}
    buffers = {name for name, _ in model.named_buffers()}
    modules = {name for name, _ in model.named_modules()} - {""}
    stateful = buffers & model.state_dict().keys()
    for what, given, needed, known in (
        ("parameters", [p for s in stages for p in s.parameters], parameters, parameters),
        ("buffers", [b for s in stages for b in s.buffers], stateful, buffers),
        ("modules", [m for s in stages for m in s.modules], set(), modules),
    ):
        faults = {
            "in no stage": sorted(needed - set(given)),
            "unknown": sorted(set(given) - known),
            "named twice": _repeated(given),
        }
        said = "; ".join(f"{fault}: {some(names)}" for fault, names in faults.items() if names)
        if said:
            raise StagingError(f"{whose} are no partition of its {what}: {said}")
    return tuple(stages)


def _names(groups: Sequence[Group]) -> list[str]:
    """Name the groups; a module that is itself called "head" or "stem" does not take that name."""
    names: list[str] = []
    for group in groups:
        name = group_name(group)
        reserved = group.kind in ("body", "neck") and name in ("stem", "head")
        names.append(group.kind if reserved else name)
    return names


def _repeated(names: Iterable[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)
