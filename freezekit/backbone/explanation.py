"""Why the stages of a model are as they are, as data."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from freezekit.model.records import ParameterInfo, Stage
    from freezekit.staging.decisions import Merge, Opening
    from freezekit.staging.grouping import Group
    from freezekit.staging.stages import Staging
    from freezekit.staging.units import Unit


@dataclass(frozen=True)
class UnitRow:
    """One unit, in the order of use.

    Attributes:
        name: Dotted name of the module or bare parameter.
        kind: "parameter", "op", "norm", "layer", "block" or "stage"; see `staging.units.UnitKind`.
        elements: How many numbers its parameters hold.
        output: Layout of its output, as in `Stage.resolution`.
        stage: Name of the stage that it belongs to.
        joined: Modules that make up this unit, because the forward uses their parameters in turns;
            empty if it is one module.
        absorbed: Bare parameters that come in while it is at work, and go with it.
        because: Why it counts as a stage, where what it holds does not say.
    """

    name: str
    kind: str
    elements: int
    output: tuple[int, ...] | None
    stage: str
    joined: tuple[str, ...] = ()
    absorbed: tuple[str, ...] = ()
    because: str = ""


@dataclass(frozen=True)
class GroupRow:
    """Units that were grouped, before any merge.

    Attributes:
        name: Name of the group.
        kind: "stem", "body", "neck" or "head".
        units: Names of its units, in the order of use.
        because: Why a group begins there; "" for stem, neck and head.
    """

    name: str
    kind: str
    units: tuple[str, ...]
    because: str


@dataclass(frozen=True)
class LateRow:
    """A parameter that eval mode does not use, why it is in its stage, and if train mode does."""

    name: str
    stage: str
    because: str
    used: bool = True


@dataclass(frozen=True)
class Explanation:
    """Why the stages of a model are as they are: the decisions that made them.

    Attributes:
        model: Name of the model's class.
        source: Who named the stages: freezekit's own rules, or a plugin's `freezekit_stages`.
        stages: Names of the stages; none where the model cannot be staged.
        input: Shape of the input that the model was observed with; "" where a plugin was asked.
        units: The parts that stages are made of, in the order of use.
        openings: Modules that were replaced by their parts, in the order of the decisions.
        body_begin: Why the body begins where it does.
        body_end: Why the body ends where it does.
        neck_end: Why the neck ends where it does; "" where there is none.
        aside: Units on which nothing later depends, such as an auxiliary classifier.
        ends: Classifiers of trunks before the last one.
        teachers: Units that no gradient reaches, beside what is trained.
        idle: Units on which no output depends.
        groups: The units as they were grouped.
        merges: Groups that became one because of a dependence.
        late: Parameters that eval mode does not use.
        error: Why the model cannot be staged; "" where it can.
    """

    model: str
    source: Literal["rules", "plugin"]
    stages: tuple[str, ...]
    input: str = ""
    units: tuple[UnitRow, ...] = ()
    openings: tuple[Opening, ...] = ()
    body_begin: str = ""
    body_end: str = ""
    neck_end: str = ""
    aside: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    teachers: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()
    groups: tuple[GroupRow, ...] = ()
    merges: tuple[Merge, ...] = ()
    late: tuple[LateRow, ...] = ()
    error: str = ""


def explain_plugin(model: str, stages: Sequence[Stage]) -> Explanation:
    """Return the explanation of stages that a plugin's hook named."""
    return Explanation(model, "plugin", tuple(stage.name for stage in stages))


def explain_staging(
    model: str, staging: Staging, parameters: Mapping[str, ParameterInfo]
) -> Explanation:
    """Return the decisions of a staging, with sizes and names in place of indices.

    Args:
        model: Name of the model's class.
        staging: The stages and how they were found, or how far that came.
        parameters: The model's parameters by their dotted names.
    """
    error = "" if staging.error is None else str(staging.error)
    grouping = staging.grouping
    stages = tuple(stage.name for stage in staging.stages)
    if grouping is None:
        return Explanation(model, "rules", stages, staging.input_text, error=error)
    names = _group_names(grouping.groups)
    final = stages or _group_names(staging.groups)
    stage_of = {p: stage.name for stage in staging.stages for p in stage.parameters}
    return Explanation(
        model,
        "rules",
        stages,
        staging.input_text,
        units=_unit_rows(staging.groups, final, parameters),
        openings=grouping.openings,
        body_begin=grouping.begin,
        body_end=grouping.end,
        neck_end=grouping.neck,
        aside=tuple(unit.name for unit in grouping.beside.exits),
        ends=tuple(unit.name for unit in grouping.beside.ends),
        teachers=tuple(unit.name for unit in grouping.beside.teachers),
        idle=tuple(unit.name for unit in grouping.beside.idle),
        groups=tuple(
            GroupRow(name, group.kind, tuple(u.name for u in group.units), group.because)
            for name, group in zip(names, grouping.groups, strict=True)
        ),
        merges=staging.merges,
        late=tuple(
            LateRow(use.name, stage_of.get(use.name, names[use.stage]), use.because, use.used)
            for use in staging.late
        ),
        error=error,
    )


def _group_names(groups: Sequence[Group]) -> tuple[str, ...]:
    from freezekit.staging.grouping import group_name

    return tuple(group_name(group) for group in groups)


def _unit_rows(
    groups: Sequence[Group], stages: Sequence[str], parameters: Mapping[str, ParameterInfo]
) -> tuple[UnitRow, ...]:
    holder_of = {member: u.name for group in groups for u in group.units for member in u.members}
    elements = Counter[str]()
    for name, info in parameters.items():
        around = name
        while around and around not in holder_of:
            around = around.rpartition(".")[0]
        if around:
            elements[holder_of[around]] += info.numel
    return tuple(
        _unit_row(unit, stage, elements[unit.name], parameters)
        for stage, group in zip(stages, groups, strict=True)
        for unit in group.units
    )


def _unit_row(
    unit: Unit, stage: str, elements: int, parameters: Mapping[str, ParameterInfo]
) -> UnitRow:
    modules = tuple(member for member in unit.members if member not in parameters)
    bare = tuple(member for member in unit.members if member in parameters)
    return UnitRow(
        name=unit.name,
        kind=unit.kind,
        elements=elements,
        output=unit.grid_out,
        stage=stage,
        joined=modules if len(modules) > 1 else (),
        absorbed=bare if modules else (),
        because=unit.because,
    )
