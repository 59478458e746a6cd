"""Units in order of use -> the groups that make stem, body stages, neck and head."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

from freezekit.staging.beside import Beside, lay_aside
from freezekit.staging.classifier import cut_tail, projects
from freezekit.staging.cutting import cut_units, dense_trunk
from freezekit.staging.expanding import (
    absorb,
    as_openings,
    even,
    expand,
    join,
    open_lists,
    opened,
    to_open,
)
from freezekit.staging.extent import TOKENS_RANK, layout_text
from freezekit.staging.units import BLOCKS, Unit, begins_trunk, in_backbone, lowers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.model.records import StageKind
    from freezekit.staging.anatomy import Anatomy
    from freezekit.staging.decisions import Opening

MOST_STAGES = 8
"""Stages of one class that lie side by side; if there are more, they are blocks of one stage.

`sequencer2d_s` has 4 such stages, of which 3 become one with 3. `legacy_xception` has 12 blocks
that hold lists of their own: with 12, each of them is a stage. `xception41p` has 13.
"""


@dataclass(frozen=True)
class Group:
    """Units that make up one stage.

    Attributes:
        kind: Of the stage.
        units: In the order of use.
        because: Why a stage begins with the first of them.
    """

    kind: StageKind
    units: tuple[Unit, ...]
    because: str = ""

    @property
    def resolution(self) -> tuple[int, ...] | None:
        """Layout of what the last of its units that has one returns."""
        told = [unit for unit in self.units if unit.grid_out is not None]
        return max(told, key=lambda unit: unit.stop).grid_out if told else None


@dataclass(frozen=True)
class Grouping:
    """A model divided into groups, and what was decided on the way.

    Attributes:
        groups: Stem, body stages, neck (where there is one) and head, in this order.
        openings: Modules that were replaced by their parts, in the order of the decisions.
        begin: Why the body begins where it does.
        end: Why the body ends where it does.
        neck: Why the neck ends where it does; "" if there is no neck.
        beside: What lies beside the body, in stem and head.
    """

    groups: tuple[Group, ...]
    openings: tuple[Opening, ...]
    begin: str
    end: str
    neck: str
    beside: Beside


def merged(groups: Sequence[Group]) -> Group:
    """Return one group of several neighbours: the stem's if it is among them, then the body's."""
    kinds: Sequence[StageKind] = [group.kind for group in groups]
    kind = "head" if "head" in kinds else kinds[0]
    return Group(kind, tuple(unit for group in groups for unit in group.units), groups[0].because)


def group_units(anatomy: Anatomy, area_out: int | None) -> Grouping:
    """Divide a model into stem, body stages, neck (where there is one) and head.

    Modules are opened until the changes of resolution lie side by side, or else the blocks.

    Args:
        anatomy: The model and its trace.
        area_out: Positions in the model's output.
    """
    expanded = expand(anatomy)
    openings = list(expanded.openings)
    beside = lay_aside(anatomy.sources, expanded.units, area_out, anatomy.parts)
    last = [unit for unit in beside.units if unit.weights][-1:]
    if anatomy.sources.needing(last, beside.exits):
        area_out = 1  # the heads have been found: what is left ends with no classifier of pixels
    trunk = dense_trunk(beside.units, openings, area_out)
    cut = cut_units(beside.units, area_out, trunk)
    while whole := to_open(cut.body):
        openings += as_openings(whole)
        if all(unit.alone for unit in whole):  # lists of blocks: the ends of the body stay
            cut = open_lists(anatomy, cut, whole)
        else:
            parts = opened(anatomy, cut.units, whole)
            cut = cut_units(join(anatomy.promote(parts)), area_out, trunk)
    cut = absorb(cut)
    if any(in_backbone(unit) for unit in chain(cut.stem, cut.body)):
        area_out = None  # whatever comes last is the head, as detection models have several
    projections = _head_to_open(anatomy, cut.after)
    openings += as_openings(projections)
    after = tuple(opened(anatomy, cut.after, projections)) if projections else cut.after
    tail = cut_tail(after, area_out, trunk)
    groups = [Group("stem", (*beside.first, *cut.stem)), *_stages(cut.body)]
    groups += [Group("neck", tail.neck)] if tail.neck else []
    of_head = anatomy.sources.needing(tail.head, beside.idle)
    for unit in (u for u in beside.idle if u not in of_head):
        at = max(at for at, group in enumerate(groups) if _starts(group) <= unit.start or not at)
        # Without a layout: the stage does not return what it makes.
        groups[at] = _joined(groups[at], replace(unit, grid_out=None, area_out=None))
    end = max(unit.stop for unit in expanded.units) + 1
    head = Group("head", (*tail.head, *of_head, *beside.last(end)))
    return Grouping(
        groups=(*groups, head),
        openings=tuple(openings),
        begin=cut.begin,
        end=cut.end,
        neck=tail.because,
        beside=beside,
    )


def _head_to_open(anatomy: Anatomy, after: tuple[Unit, ...]) -> dict[Unit, str]:
    """Return a head that pools, projects and classifies: its projection is told apart inside."""
    last = next((unit for unit in reversed(after) if unit.weights), None)
    if last is None or last.kind not in BLOCKS or len(last.members) != 1 or not last.vector:
        return {}
    weighty = [part for part in anatomy.parts(last.name) if part.weights]
    # Queries and keys of an attention that pools are no projections: they keep its tokens.
    found = (part for part in weighty if projects(part) and part.rank_out != TOKENS_RANK)
    projection = next(found, None)
    return {last: f"{projection.name} in it projects before it classifies"} if projection else {}


def _stages(body: Sequence[Unit]) -> list[Group]:
    """Group the body at changes of resolution; where there are none, block by block.

    Stages stand by themselves, blocks and layers with those beside them. What comes before a stage
    and lowers the resolution (a downsampling layer, a pooling) goes with that stage, and so does a
    bare parameter, which is used on what follows it.
    """
    weighty = [unit for unit in body if unit.weights]
    core = _core_kinds(weighty)
    one_by_one = even(weighty)
    made = [(unit.parent, unit.type_name) for unit in weighty]
    groups: list[Group] = []
    waiting: list[Unit] = []
    ahead = ""  # why the first of those that wait belongs to what follows
    before: Unit | None = None  # the last one that has a layout
    for unit in body:
        trunk = bool(groups) and begins_trunk(unit)
        falls = before is not None and not trunk and lowers(before.area_out, unit.area_out)
        fall = f"the resolution falls from {_layout(before)} to {_layout(unit)} at {unit.name}"
        before = unit if unit.area_out else before
        if trunk:  # what waits ended the trunk before it
            groups[-1] = _joined(groups[-1], *waiting)
            waiting = []
            ahead = f"a trunk begins at {unit.name}, which takes the model's own input"
        if unit.kind not in core:
            connects = unit.kind == "parameter" or unit.kind in BLOCKS
            if falls or waiting or not groups or connects or trunk:
                if not ahead or (falls and not any(map(begins_trunk, waiting))):
                    ahead = fall if falls else f"{unit.name} goes with what follows it"
                waiting.append(unit)
            else:
                groups[-1] = _joined(groups[-1], unit)
            continue
        reasons = (
            "the body begins here" if not groups else "",
            fall if falls and not any(map(begins_trunk, waiting)) else "",
            ahead,
            "the resolution never falls in the body" if one_by_one else "",
            _apart(groups[-1].units[-1], unit, made) if groups else "",
        )
        because = next(filter(None, reasons), "")
        if because:
            groups.append(Group("body", (*waiting, unit), because))
            waiting, ahead = [], ""
        else:
            groups[-1] = _joined(groups[-1], unit)
    if waiting and groups:
        groups[-1] = _joined(groups[-1], *waiting)
    elif waiting:
        groups = [Group("body", tuple(waiting), "the body has no blocks or layers")]
    return groups


def _starts(group: Group) -> int:
    return min((unit.start for unit in group.units), default=0)


def _joined(group: Group, *units: Unit) -> Group:
    return replace(group, units=(*group.units, *units))


def _layout(unit: Unit | None) -> str:
    return layout_text(unit.grid_out if unit else None)


def _core_kinds(units: Sequence[Unit]) -> tuple[str, ...]:
    """What stages are made of here; all else goes with it."""
    kinds = [unit.kind for unit in units]
    if "stage" in kinds:
        return ("stage",)
    if kinds.count("layer") > kinds.count("block"):
        return ("layer", "block")
    return ("block",)


def _apart(before: Unit, unit: Unit, made: Sequence[tuple[str, str]]) -> str:
    """Say why two units on one resolution belong to different stages, "" if they do not."""
    if unit.kind != "stage":
        where = f"it lies in {unit.parent or 'the model itself'}, what comes before it does not"
        return where if before.parent != unit.parent else ""
    make = (unit.parent, unit.type_name)
    if unit.alone:
        return unit.because or "it is a list of blocks"
    if make != (before.parent, before.type_name):
        return f"what comes before it is no {unit.type_name} beside it"
    # A model has few stages: more than these of one class are blocks that hold lists of their own.
    return f"it is a {unit.type_name} that holds blocks" if made.count(make) <= MOST_STAGES else ""


def group_name(group: Group) -> str:
    """Return the model's own name for a group: "layer1", "features.2-3", "conv2-conv3"."""
    if group.kind in ("stem", "head"):
        return group.kind
    modules = [unit for unit in group.units if unit.kind != "parameter"] or list(group.units)
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
