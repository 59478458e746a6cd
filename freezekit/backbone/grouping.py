"""Units in order of use -> stem, body stages, neck and head: where the boundaries are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from freezekit.backbone.records import StageKind
from freezekit.backbone.units import Anatomy, Unit, lowers

BLOCKS = ("block", "stage")


@dataclass(frozen=True)
class Group:
    """Units that make up one stage."""

    kind: StageKind
    units: tuple[Unit, ...]


def group_units(anatomy: Anatomy, area_out: int | None) -> tuple[Group, ...]:
    """Divide a model into stem, body stages, neck (where there is one) and head, in this order.

    Containers are opened until the changes of resolution, or else the blocks, lie side by side.

    Args:
        anatomy: The model and its trace.
        area_out: Positions in the model's output.
    """
    units = _settle(anatomy, anatomy.parts(""))
    cut = _cut(units, area_out)
    while whole := _to_open(anatomy, cut):
        among_stages = any(unit.kind == "stage" and unit not in whole for unit in cut[1])
        units = _join(anatomy.promote(_opened(anatomy, units, whole, stages=among_stages)))
        cut = _cut(units, area_out)
    stem, body, tail = cut
    neck, head = _neck(_open_head(anatomy, tail), area_out)
    groups = [Group("stem", stem)]
    groups += [Group("body", units) for units in _stages(body)]
    groups += [Group("neck", neck)] if neck else []
    return (*groups, Group("head", head))


def _opened(
    anatomy: Anatomy, units: Sequence[Unit], whole: Sequence[Unit], stages: bool = False
) -> list[Unit]:
    """Put the parts of `whole` in its place; its blocks as stages, if that is asked for."""
    opened: list[Unit] = []
    for unit in units:
        if unit not in whole:
            opened.append(unit)
            continue
        for part in anatomy.parts(unit.name):
            becomes = stages and part.kind == "block"
            opened.append(replace(part, kind="stage", alone=True) if becomes else part)
    return sorted(opened, key=lambda unit: unit.start)


def _settle(anatomy: Anatomy, units: Sequence[Unit]) -> tuple[Unit, ...]:
    """Open what reaches several resolutions: `features`, `stages`, a wrapped backbone.

    A patchifying stem reaches several too; it holds no stages and few of the weights.
    """
    while True:
        interleaved = _interleaved(units)
        if interleaved:
            units = _opened(anatomy, units, interleaved)
            continue
        weighty = [unit for unit in units if unit.weights]
        if len(weighty) == 1 and len(anatomy.parts(weighty[0].name)) > 0:
            whole = [u for u in weighty if u.kind in BLOCKS]
        else:
            total = sum(unit.weights for unit in weighty if len(unit.levels) or not unit.vector)
            whole = [
                unit
                for unit in weighty
                if len(unit.levels) >= 2
                and (anatomy.contains_stage(unit.name) or 2 * unit.weights >= total)
            ]
        if not whole:
            return _join(anatomy.promote(units))
        units = _opened(anatomy, units, whole)


def _interleaved(units: Sequence[Unit]) -> list[Unit]:
    """Return lists whose parts take turns with others, as with a list of blocks and one of norms."""
    return [
        unit
        for unit in units
        if not unit.called
        and lowers(unit.area_in, unit.area_out)
        and any(other.start < unit.stop and unit.start < other.stop for other in units if other is not unit and other.kind not in ("bare", "light"))
    ]


def _join(units: Sequence[Unit]) -> tuple[Unit, ...]:
    """Join units whose parameters are used in turns, such as parallel branches."""
    joined: list[Unit] = []
    for unit in units:
        at = next((i for i, other in enumerate(joined) if unit.start < other.stop), None)
        if at is None or unit.kind in ("bare", "light"):
            joined.append(unit)
            continue
        together = [*joined[at:], unit]
        del joined[at:]
        main = max(together, key=lambda u: u.weights)
        last = max(together, key=lambda u: u.stop)
        joined.append(
            replace(
                main,
                start=together[0].start,
                stop=last.stop,
                weights=sum(u.weights for u in together),
                area_in=together[0].area_in,
                area_out=last.area_out,
                rank_out=last.rank_out,
                members=tuple(name for u in together for name in u.members),
            )
        )
    return tuple(joined)


Cut = tuple[tuple[Unit, ...], tuple[Unit, ...], tuple[Unit, ...]]
"""Stem, body and what comes after the body."""


def _cut(units: tuple[Unit, ...], area_out: int | None) -> Cut:
    core = _core(units, area_out)
    first = next((i for i, unit in enumerate(units) if unit.weights), len(units))
    blocks = [i for i in range(first + 1, core) if units[i].kind in BLOCKS]
    before = sum(unit.weights for unit in units[: blocks[0]]) if blocks else 0
    if blocks and 2 * before < sum(unit.weights for unit in units[:core]):
        stages = [i for i in blocks if units[i].kind == "stage"]
        start, stop = blocks[0], (stages or blocks)[-1] + 1
    else:  # a plain chain of layers
        start = _skip_lights(units, first + 1, core)
        stop = _skip_lights(units, core, len(units)) if core > start else core
    start, stop = min(start, core), max(min(start, core), stop)
    stop = _first_rise(units, start, stop)
    return units[:start], units[start:stop], units[stop:]


def _first_rise(units: Sequence[Unit], start: int, stop: int) -> int:
    """Return where the resolution goes up again: what decodes or fuses is no body."""
    area: int | None = None
    for at in range(start, stop):
        if lowers(units[at].area_out, area) and units[at].weights:
            return at
        area = units[at].area_out or area
    return stop


def _core(units: Sequence[Unit], area_out: int | None) -> int:
    """Return where the classifier, and the pooling and norms before it, begin at the latest."""
    at = len(units)
    weighty = [i for i, unit in enumerate(units) if unit.weights]
    while at and not units[at - 1].weights:
        at -= 1
    while at and _classifies(units[at - 1]):
        at -= 1
        while at and not units[at - 1].weights:
            at -= 1
    if at == len(weighty) == 0:
        return 0
    dense = area_out is None or area_out > 1
    if at and at - 1 == weighty[-1] and dense and units[at - 1].kind == "layer":
        at -= 1  # a classifier of pixels
    return at if weighty and at > weighty[0] else _after_first(units, weighty)


def _after_first(units: Sequence[Unit], weighty: Sequence[int]) -> int:
    """A chain of fully connected layers: the last one classifies."""
    if len(weighty) < 2:
        return len(units)
    return weighty[-2] + 1


def _classifies(unit: Unit) -> bool:
    """Tell whether this works on vectors, or pools and then does."""
    if not unit.vector or unit.kind == "stage":
        return False
    pooled = unit.area_in is None or unit.area_in == 1 or unit.area_in >= 9
    return unit.rank_out == 2 or pooled


def _skip_lights(units: Sequence[Unit], at: int, end: int) -> int:
    """Pass the norms and activations that belong to the layer before them."""
    while at < end and units[at].kind in ("light", "norm"):
        if lowers(units[at].area_in, units[at].area_out) or units[at].rank_out == 2:
            break
        at += 1
    return at


def _to_open(anatomy: Anatomy, cut: Cut) -> tuple[Unit, ...]:
    """Return the lists of blocks to open where the body, or most of it, keeps one resolution."""
    body = [unit for unit in cut[1] if unit.kind in BLOCKS]
    stages = [unit for unit in body if unit.kind == "stage" and len(unit.members) == 1]
    if len(body) == 1:
        return tuple(stages)
    if _even(body):  # unless they are the parts of a list that has been opened already
        return () if any("." in unit.name for unit in stages) else tuple(stages)
    total = sum(unit.weights for unit in body)
    return tuple(
        unit
        for unit in stages
        if 2 * unit.weights > total
        and not any(other.parent == unit.parent for other in body if other is not unit)
        and not any(lowers(unit.area_in, area) for area in unit.levels)
    )


def _even(units: Sequence[Unit]) -> bool:
    areas = [unit.area_out for unit in units if unit.area_out is not None]
    return not any(lowers(a, b) for a, b in zip(areas, areas[1:], strict=False))


def _stages(body: Sequence[Unit]) -> list[tuple[Unit, ...]]:
    """Group the body at changes of resolution; where there are none, block by block."""
    weighty = [unit for unit in body if unit.weights]
    mixed = any(unit.kind == "stage" for unit in body)
    core = ("stage",) if mixed else BLOCKS if any(u.kind in BLOCKS for u in weighty) else ("layer",)
    even = _even(weighty)
    groups: list[list[Unit]] = []
    waiting: list[Unit] = []  # goes with the stage that follows
    level: int | None = None
    for unit in body:
        falls = lowers(level, unit.area_out)
        starts = falls if unit.kind not in core else _starts(groups, unit, falls, even, mixed)
        if unit.kind in core:
            if starts or waiting or not groups:
                groups.append([*waiting, unit])
                waiting = []
            else:
                groups[-1].append(unit)
        elif starts or waiting or not groups or unit.kind == "bare":
            waiting.append(unit)
        elif mixed and unit.kind in BLOCKS:
            waiting.append(unit)
        else:
            groups[-1].append(unit)
        level = unit.area_out or level
    if waiting:
        groups = [*groups[:-1], [*groups[-1], *waiting]] if groups else [waiting]
    return [tuple(group) for group in groups]


def _starts(
    groups: Sequence[Sequence[Unit]], unit: Unit, falls: bool, even: bool, mixed: bool
) -> bool:
    if falls or even or not groups:
        return True
    before = groups[-1][-1]
    alike = (before.parent, before.type_name) == (unit.parent, unit.type_name)
    return not alike if mixed and not unit.alone else mixed or before.parent != unit.parent


def _open_head(anatomy: Anatomy, tail: tuple[Unit, ...]) -> tuple[Unit, ...]:
    """Open a head that pools, projects and classifies, to tell its projection apart."""
    last = next((unit for unit in reversed(tail) if unit.weights), None)
    if last is None or last.kind not in BLOCKS or len(last.members) != 1:
        return tail
    parts = anatomy.parts(last.name)
    if not any(_projects(part) for part in parts if part.weights):
        return tail
    return tuple(_opened(anatomy, tail, [last]))


def _projects(unit: Unit) -> bool:
    """Tell whether this stands between body and classifier: it makes no vector, or says so."""
    return unit.rank_out not in (2, None) or unit.name.endswith("pre_logits")


def _neck(
    tail: tuple[Unit, ...], area_out: int | None
) -> tuple[tuple[Unit, ...], tuple[Unit, ...]]:
    """Split what follows the body into neck and head."""
    weighty = [i for i, unit in enumerate(tail) if unit.weights]
    dense = area_out is None or area_out > 1
    if weighty and (dense or tail[weighty[-1]].vector):
        weighty.pop()  # the classifier
    last = max((i for i in weighty if _projects(tail[i])), default=-1)
    stop = last + 1
    while 0 < stop < len(tail) and tail[stop].kind == "norm":
        stop += 1
    return tail[:stop], tail[stop:]


def group_name(group: Group) -> str:
    """Return the model's own name for a group: "layer1", "features.2-3", "conv2-conv3"."""
    if group.kind in ("stem", "head"):
        return group.kind
    modules = [unit for unit in group.units if unit.kind != "bare"]
    weighty = [unit for unit in modules if unit.weights] or modules
    if len(weighty) == 1 and len(modules) == 1:
        return weighty[0].name
    indices = [unit.name.rpartition(".")[2] for unit in modules]
    if all(map(str.isdigit, indices)) and len({unit.parent for unit in modules}) == 1:
        return f"{modules[0].name}-{indices[-1]}"
    stages = [unit for unit in weighty if unit.kind == "stage"]
    main = stages or [unit for unit in weighty if unit.kind == "block"] or weighty
    if len(main) > 1 and main[0].parent == main[-1].parent and not stages:
        return f"{main[0].name}-{main[-1].name.rpartition('.')[2]}"
    return max(main, key=lambda unit: unit.weights).name
