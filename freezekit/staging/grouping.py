"""Units in order of use -> the groups that make stem, body stages, neck and head."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

from freezekit.staging.cutting import BLOCKS, cut_tail, cut_units, in_backbone, projects
from freezekit.staging.expanding import absorb, even, join, open_lists, opened, settle, to_open
from freezekit.staging.units import Anatomy, Unit, lowers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.model.records import StageKind


@dataclass(frozen=True)
class Group:
    """Units that make up one stage."""

    kind: StageKind
    units: tuple[Unit, ...]

    @property
    def resolution(self) -> tuple[int, ...] | None:
        """Layout of what the last of its units that has one returns."""
        told = [unit for unit in self.units if unit.grid_out is not None]
        return max(told, key=lambda unit: unit.stop).grid_out if told else None


def merged(groups: Sequence[Group]) -> Group:
    """Return one group of several neighbours: the stem's if it is among them, then the body's."""
    kinds: Sequence[StageKind] = [group.kind for group in groups]
    kind = "head" if "head" in kinds else kinds[0]
    return Group(kind, tuple(unit for group in groups for unit in group.units))


def group_units(anatomy: Anatomy, area_out: int | None) -> tuple[Group, ...]:
    """Divide a model into stem, body stages, neck (where there is one) and head, in this order.

    Modules are opened until the changes of resolution lie side by side, or else the blocks.

    Args:
        anatomy: The model and its trace.
        area_out: Positions in the model's output.
    """
    units = settle(anatomy)
    aside = anatomy.exits(units)
    cut = cut_units(tuple(unit for unit in units if unit not in aside), area_out)
    while whole := to_open(cut[1]):
        if all(unit.alone for unit in whole):  # lists of blocks: the ends of the body stay
            cut = open_lists(anatomy, cut, whole)
        else:
            parts = opened(anatomy, [*chain(*cut)], whole)
            cut = cut_units(join(anatomy.promote(parts)), area_out)
    stem, body, tail = absorb(cut)
    if any(in_backbone(unit) for unit in chain(stem, body)):
        area_out = None  # whatever comes last is the head, as detection models have several
    neck, head = cut_tail(_open_head(anatomy, tail), area_out)
    groups = [Group("stem", stem)]
    groups += [Group("body", units) for units in _stages(body)]
    groups += [Group("neck", neck)] if neck else []
    end = max(unit.stop for unit in units) + 1  # what is called half-way comes last all the same
    return (*groups, Group("head", (*head, *(replace(u, start=end, stop=end) for u in aside))))


def _open_head(anatomy: Anatomy, tail: tuple[Unit, ...]) -> tuple[Unit, ...]:
    """Open a head that pools, projects and classifies, to tell its projection apart."""
    last = next((unit for unit in reversed(tail) if unit.weights), None)
    if last is None or last.kind not in BLOCKS or len(last.members) != 1 or not last.vector:
        return tail
    weighty = [part for part in anatomy.parts(last.name) if part.weights]
    # Queries and keys of an attention that pools are no projections: they keep its tokens.
    if not any(projects(part) and part.rank_out != 3 for part in weighty):
        return tail
    return tuple(opened(anatomy, tail, [last]))


def _stages(body: Sequence[Unit]) -> list[tuple[Unit, ...]]:
    """Group the body at changes of resolution; where there are none, block by block.

    Stages stand by themselves, blocks and layers with those beside them. What comes before a stage
    and lowers the resolution (a downsampling layer, a pooling) goes with that stage, and so does a
    bare parameter, which is used on what follows it.
    """
    weighty = [unit for unit in body if unit.weights]
    core = _core_kinds(weighty)
    one_by_one = even(weighty)
    made = [(unit.parent, unit.type_name) for unit in weighty]
    groups: list[list[Unit]] = []
    waiting: list[Unit] = []
    level: int | None = None
    for unit in body:
        falls = lowers(level, unit.area_out)
        level = unit.area_out or level
        if unit.kind not in core:
            connects = unit.kind == "bare" or unit.kind in BLOCKS
            ahead = falls or bool(waiting) or not groups or connects
            (waiting if ahead else groups[-1]).append(unit)
        elif falls or one_by_one or waiting or not groups or _apart(groups[-1][-1], unit, made):
            groups.append([*waiting, unit])
            waiting = []
        else:
            groups[-1].append(unit)
    if waiting:
        groups = [*groups[:-1], [*groups[-1], *waiting]] if groups else [waiting]
    return [tuple(group) for group in groups]


def _core_kinds(units: Sequence[Unit]) -> tuple[str, ...]:
    """What stages are made of here; all else goes with it."""
    kinds = [unit.kind for unit in units]
    if "stage" in kinds:
        return ("stage",)
    if kinds.count("layer") > kinds.count("block"):
        return ("layer", "block")
    return ("block",)


def _apart(before: Unit, unit: Unit, made: Sequence[tuple[str, str]]) -> bool:
    """Tell whether two units on one resolution belong to different stages."""
    if unit.kind != "stage":
        return before.parent != unit.parent
    make = (unit.parent, unit.type_name)
    # A model has few stages: more than these of one class are blocks that hold lists of their own.
    return unit.alone or made.count(make) <= 8 or make != (before.parent, before.type_name)


def group_name(group: Group) -> str:
    """Return the model's own name for a group: "layer1", "features.2-3", "conv2-conv3"."""
    if group.kind in ("stem", "head"):
        return group.kind
    modules = [unit for unit in group.units if unit.kind != "bare"] or list(group.units)
    weighty = [unit for unit in modules if unit.weights] or modules
    if len(modules) == 1:
        return modules[0].name
    indices = [unit.name.rpartition(".")[2] for unit in modules]
    if all(map(str.isdigit, indices)) and len({unit.parent for unit in modules}) == 1:
        return f"{modules[0].name}-{indices[-1]}"
    if group.kind == "neck":
        main = weighty
        if main[0].parent != main[-1].parent:
            return f"{main[0].name}-{main[-1].name}"
    else:
        kinds = _core_kinds(weighty)
        main = [unit for unit in weighty if unit.kind in kinds] or weighty
    if len(main) > 1 and main[0].parent == main[-1].parent:
        return f"{main[0].name}-{main[-1].name.rpartition('.')[2]}"
    return max(main, key=lambda unit: unit.weights).name
