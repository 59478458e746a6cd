"""Which modules are opened to see their parts, and which are joined into one unit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

from freezekit.staging.beside import lists_of_heads
from freezekit.staging.cutting import STEM_LAYERS, Cut
from freezekit.staging.decisions import Opening
from freezekit.staging.units import BLOCKS, Unit, in_backbone, lowers, merged_unit, trunks

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from freezekit.staging.anatomy import Anatomy

SEVERAL_LEVELS = 2
"""Falls of the resolution inside a module from which its parts may be stages.

With 1, a stage that begins with its own downsampling is opened: `edgenext_xx_small` is divided into
`stages.2.blocks.0` to `stages.2.blocks.5`. With 3, the two stages in the patch embedding of
`vitamin_small_224` become one.
"""

SPANNING_SHARE = Fraction(1, 2)
"""A module without lists of blocks in it is opened if it holds this share of the weight tensors.

`features` of `alexnet`, `vgg11` and `mobilenet_v2` holds more, and is no single stage. With a lower
share, patchifying stems are opened too; no parameter of the models tried moves then.
"""

LONG_LIST_SHARE = Fraction(1, 3)
"""A list on one resolution is opened if it holds more than this share of the body's weight tensors.

`vitamin_small_224` has two convolutional stages and then 14 transformer blocks, which hold most of
the weights: they are stages one by one. A share above theirs makes one stage of them.
"""


@dataclass(frozen=True)
class Expanded:
    """The units of a model, and which modules were replaced by their parts to reach them."""

    units: tuple[Unit, ...]
    openings: tuple[Opening, ...]


def expand(anatomy: Anatomy) -> Expanded:
    """Return the units of a model, in order of use, with each on about one resolution.

    Modules that reach several are opened: `features`, `stages`, a wrapped backbone. A patchifying
    stem reaches several too, but it holds no lists of blocks, and few of the weights.
    """
    units: Sequence[Unit] = anatomy.parts("")
    openings: list[Opening] = []
    while whole := _interleaved(units) or _spanning(anatomy, _without_heads(anatomy, units)):
        units = opened(anatomy, units, whole)
        openings += as_openings(whole)
    return Expanded(join(anatomy.promote(units)), tuple(openings))


def _without_heads(anatomy: Anatomy, units: Sequence[Unit]) -> list[Unit]:
    heads = lists_of_heads(anatomy.sources, units, anatomy.parts)
    return [unit for unit in units if unit not in heads]


def as_openings(whole: Mapping[Unit, str]) -> tuple[Opening, ...]:
    """Return modules that were opened, and why, as records."""
    return tuple(Opening(unit.name, because) for unit, because in whole.items())


def opened(anatomy: Anatomy, units: Sequence[Unit], whole: Container[Unit]) -> list[Unit]:
    """Return the units, with each that is in `whole` replaced by its parts."""
    parts = (part for u in units for part in (anatomy.parts(u.name) if u in whole else (u,)))
    return sorted(parts, key=lambda unit: unit.start)


def even(units: Sequence[Unit]) -> bool:
    """Tell whether the resolution never goes down from one unit of a trunk to the next."""
    told = [unit for unit in units if unit.area_out is not None]
    return not any(lowers(a.area_out, b.area_out) and not b.first for a, b in pairwise(told))


def to_open(body: Sequence[Unit]) -> dict[Unit, str]:
    """Return the lists to open where a trunk, or most of it, keeps one resolution, and why."""
    return {unit: why for trunk in trunks(body) for unit, why in _lists_to_open(trunk).items()}


def _lists_to_open(trunk: Sequence[Unit]) -> dict[Unit, str]:
    blocks = [unit for unit in trunk if unit.kind in BLOCKS]
    stages = [unit for unit in blocks if unit.kind == "stage" and len(unit.members) == 1]
    if len(blocks) == 1:
        return dict.fromkeys(stages, "it is the only list of blocks in the body")
    if even(blocks):  # unless they are the parts of a list that has been opened already
        flat = "the resolution never falls from one block of the body to the next"
        return {} if any(unit.parent for unit in stages) else dict.fromkeys(stages, flat)
    total = sum(unit.weights for unit in blocks)
    return {
        unit: f"the resolution is the same all through it, and it holds {unit.weights} of the "
        f"{total} weight tensors of the body"
        for unit in stages
        if unit.weights > LONG_LIST_SHARE * total
        and not unit.levels
        and not any(other.parent == unit.parent for other in blocks if other is not unit)
    }


def open_lists(anatomy: Anatomy, cut: Cut, whole: Mapping[Unit, str]) -> Cut:
    """Open lists in the body; beside stages, each block of a plain list is a stage too."""
    end = max(unit.stop for unit in cut.body)
    amidst = [unit for unit in cut.after if unit.start < end]  # a class token, half-way
    units = opened(anatomy, [*cut.body, *amidst], whole)
    if any(unit.kind == "stage" for unit in units):
        plain = {unit.name for unit in whole if not anatomy.contains_stage(unit.name)}
        units = [
            replace(unit, kind="stage", alone=True, because="it is a block of a list beside stages")
            if unit.kind == "block" and unit.parent in plain
            else unit
            for unit in units
        ]
    after = tuple(unit for unit in cut.after if unit not in amidst)
    return replace(cut, body=join(anatomy.promote(units)), after=after)


def join(units: Sequence[Unit]) -> tuple[Unit, ...]:
    """Join units whose parameters are used in turns, such as parallel branches."""
    joined: list[Unit] = []
    for unit in units:
        at = next((i for i, other in enumerate(joined) if unit.start < other.stop), None)
        if at is None or unit.kind in ("parameter", "op"):
            joined.append(unit)
        else:
            joined[at:] = [merged_unit([*joined[at:], unit])]
    return tuple(joined)


def absorb(cut: Cut) -> Cut:
    """Give a bare parameter that comes in while a unit is at work to that unit."""
    bare = [unit for unit in (*cut.body, *cut.after) if unit.kind == "parameter"]
    taken: list[Unit] = []

    def fed(unit: Unit) -> Unit:
        if not unit.weights:
            return unit
        inside = [b for b in bare if unit.start < b.start < unit.stop and b not in taken]
        taken.extend(inside)
        return replace(unit, members=(*unit.members, *(m for b in inside for m in b.members)))

    stem, body, after = (tuple(map(fed, part)) for part in (cut.stem, cut.body, cut.after))
    return replace(
        cut,
        stem=stem,
        body=tuple(unit for unit in body if unit not in taken),
        after=tuple(unit for unit in after if unit not in taken),
    )


def _interleaved(units: Sequence[Unit]) -> dict[Unit, str]:
    """Return lists whose parts take turns with others: with what embeds positions, with exits."""
    weighty = [unit for unit in units if unit.kind not in ("parameter", "op")]
    others: dict[Unit, str] = {}
    for unit in units:
        if unit.called or not (unit.alone or lowers(unit.area_in, unit.area_out)):
            continue
        rest = (other for other in weighty if other is not unit)
        turns = [o for o in rest if o.start < unit.stop and unit.start < o.stop]
        # One module amidst a list, such as a table of positions that all its blocks share, is no
        # reason to open it; several are, such as the blocks between exits.
        blocks = sum(other.kind in BLOCKS for other in turns)
        if turns and (lowers(unit.area_in, unit.area_out) or blocks > 1):
            others[unit] = f"the forward uses its parts and {turns[0].name} in turns"
    return others


def _spanning(anatomy: Anatomy, units: Sequence[Unit]) -> dict[Unit, str]:
    """Return the modules that reach over several stages, and why."""
    weighty = [unit for unit in units if unit.weights]
    if len(weighty) == 1:
        one = weighty[0]
        return {one: "it holds all the weight tensors"} if one.kind in BLOCKS else {}
    found = (_spanning_in(anatomy, trunk) for trunk in trunks(weighty))
    return {unit: why for spanning in found for unit, why in spanning.items()}


def _spanning_in(anatomy: Anatomy, trunk: Sequence[Unit]) -> dict[Unit, str]:
    """Return the modules of one trunk that reach over several stages, and why."""
    total = sum(unit.weights for unit in trunk if unit.levels or not unit.vector)

    def because(unit: Unit) -> str:
        reaches = f"the resolution falls {len(unit.levels)} times in it"
        falls = len(unit.levels) >= SEVERAL_LEVELS
        if falls and in_backbone(unit) and unit.weights > STEM_LAYERS:
            return f"{reaches}, and it lies in the model's backbone"
        if falls and anatomy.contains_stage(unit.name):
            return f"{reaches}, and it holds lists of blocks"
        if falls and unit.alone and not unit.called:
            return f"{reaches}, and the forward calls its parts, not the list"
        if (falls or unit is trunk[0]) and unit.weights >= SPANNING_SHARE * total:
            where = reaches if falls else "it comes first"
            return f"{where}, and it holds half of the weight tensors or more"
        if unit.depth >= SEVERAL_LEVELS and unit.weights >= SPANNING_SHARE * total:
            return (
                f"the resolution falls {unit.depth} times in it and comes back, and it holds half "
                "of the weight tensors or more"
            )
        return ""

    return {unit: why for unit in trunk if unit.kind in BLOCKS and (why := because(unit))}
