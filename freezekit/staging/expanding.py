"""Which modules are opened to see their parts, and which are joined into one unit."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from freezekit.staging.cutting import BLOCKS, STEM_LAYERS, Cut, in_backbone
from freezekit.staging.units import Anatomy, Unit, lowers

if TYPE_CHECKING:
    from collections.abc import Sequence


def settle(anatomy: Anatomy) -> tuple[Unit, ...]:
    """Return the units of a model, in order of use, with each on about one resolution.

    Opened is what reaches several: `features`, `stages`, a wrapped backbone. A patchifying stem
    reaches several too, but it holds no lists of blocks, and few of the weights.
    """
    units: Sequence[Unit] = anatomy.parts("")
    while whole := _interleaved(units) or _spanning(anatomy, units):
        units = opened(anatomy, units, whole)
    return join(anatomy.promote(units))


def opened(anatomy: Anatomy, units: Sequence[Unit], whole: Sequence[Unit]) -> list[Unit]:
    """Put the parts of those in `whole` in their place."""
    parts = (part for u in units for part in (anatomy.parts(u.name) if u in whole else (u,)))
    return sorted(parts, key=lambda unit: unit.start)


def even(units: Sequence[Unit]) -> bool:
    """Tell whether the resolution never goes down from one unit to the next."""
    areas = [unit.area_out for unit in units if unit.area_out is not None]
    return not any(lowers(a, b) for a, b in pairwise(areas))


def to_open(body: Sequence[Unit]) -> tuple[Unit, ...]:
    """Return the lists of blocks to open where the body, or most of it, keeps one resolution."""
    blocks = [unit for unit in body if unit.kind in BLOCKS]
    stages = [unit for unit in blocks if unit.kind == "stage" and len(unit.members) == 1]
    if len(blocks) == 1:
        return tuple(stages)
    if even(blocks):  # unless they are the parts of a list that has been opened already
        return () if any(unit.parent for unit in stages) else tuple(stages)
    total = sum(unit.weights for unit in blocks)
    return tuple(
        unit
        for unit in stages
        if 3 * unit.weights > total
        and not unit.levels
        and not any(other.parent == unit.parent for other in blocks if other is not unit)
    )


def open_lists(anatomy: Anatomy, cut: Cut, whole: Sequence[Unit]) -> Cut:
    """Open lists in the body; beside stages, each block of a plain list is a stage too."""
    stem, body, tail = cut
    end = max(unit.stop for unit in body)
    amidst = [unit for unit in tail if unit.start < end]  # a class token that comes in half-way
    units = opened(anatomy, [*body, *amidst], whole)
    if any(unit.kind == "stage" for unit in units):
        plain = {unit.name for unit in whole if not anatomy.contains_stage(unit.name)}
        units = [
            replace(unit, kind="stage", alone=True)
            if unit.kind == "block" and unit.parent in plain
            else unit
            for unit in units
        ]
    return stem, join(anatomy.promote(units)), tuple(u for u in tail if u not in amidst)


def join(units: Sequence[Unit]) -> tuple[Unit, ...]:
    """Join units whose parameters are used in turns, such as parallel branches."""
    joined: list[Unit] = []
    for unit in units:
        at = next((i for i, other in enumerate(joined) if unit.start < other.stop), None)
        if at is None or unit.kind in ("bare", "light"):
            joined.append(unit)
        else:
            joined[at:] = [_merged([*joined[at:], unit])]
    return tuple(joined)


def absorb(cut: Cut) -> Cut:
    """Give a bare parameter that comes in while a unit is at work to that unit."""
    bare = [unit for part in cut[1:] for unit in part if unit.kind == "bare"]
    taken: list[Unit] = []

    def fed(unit: Unit) -> Unit:
        if not unit.weights:
            return unit
        inside = [b for b in bare if unit.start < b.start < unit.stop and b not in taken]
        taken.extend(inside)
        return replace(unit, members=(*unit.members, *(m for b in inside for m in b.members)))

    stem, body, tail = (tuple(fed(unit) for unit in part) for part in cut)
    return (
        stem,
        tuple(unit for unit in body if unit not in taken),
        tuple(unit for unit in tail if unit not in taken),
    )


def _merged(units: Sequence[Unit]) -> Unit:
    last = max(units, key=lambda unit: unit.stop)
    return replace(
        max(units, key=lambda unit: unit.weights),  # it gives its name and kind
        start=units[0].start,
        stop=last.stop,
        weights=sum(unit.weights for unit in units),
        area_in=units[0].area_in,
        area_out=last.area_out,
        rank_out=last.rank_out,
        grid_out=last.grid_out,
        members=tuple(name for unit in units for name in unit.members),
    )


def _interleaved(units: Sequence[Unit]) -> list[Unit]:
    """Return lists whose parts take turns with others: of blocks and of what embeds positions."""
    weighty = [unit for unit in units if unit.kind not in ("bare", "light")]
    return [
        unit
        for unit in units
        if not unit.called
        and lowers(unit.area_in, unit.area_out)
        and any(o.start < unit.stop and unit.start < o.stop for o in weighty if o is not unit)
    ]


def _spanning(anatomy: Anatomy, units: Sequence[Unit]) -> list[Unit]:
    weighty = [unit for unit in units if unit.weights]
    if len(weighty) == 1:
        return [unit for unit in weighty if unit.kind in BLOCKS]
    total = sum(unit.weights for unit in weighty if unit.levels or not unit.vector)
    return [
        unit
        for unit in weighty
        if unit.kind in BLOCKS
        and (
            (len(unit.levels) >= 2 and in_backbone(unit) and unit.weights > STEM_LAYERS)
            or (len(unit.levels) >= 2 and anatomy.contains_stage(unit.name))
            or ((len(unit.levels) >= 2 or unit is weighty[0]) and 2 * unit.weights >= total)
        )
    ]
