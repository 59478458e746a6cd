"""Where the stem ends, and where the body begins and ends, in a row of units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from freezekit.staging.classifier import classifier_start, makes_maps
from freezekit.staging.extent import VECTOR_RANK
from freezekit.staging.units import Unit, in_backbone, is_neck, lowers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.staging.decisions import Opening

STEM_LAYERS = 6
"""Layers that a stem has at most.

`inception_v3` and `inception_resnet_v2` have 5 before their first block: with 4 they are taken for
chains. `ssd300_vgg16` has 10 convolutions before its first block and is a chain: with 10 they are
its stem. In a model's `backbone`, a module with more weight tensors than this is no stem either:
with 12, `features` of `ssd300_vgg16` is not opened.
"""

STEM_SHARE = Fraction(1, 2)
"""A stem holds less than this share of the weight tensors before the classifier.

No model of timm or torchvision that was tried moves from 1/4 up to 1. Small ones of one's own do:
with 3/4, three strided convolutions before one block are all stem, and none of them is a stage;
with 1/4, two convolutions before two blocks are no stem.
"""


@dataclass(frozen=True)
class Cut:
    """Units divided into stem, body and what comes after the body.

    Attributes:
        stem: Units before the body.
        body: Units of the body.
        after: Units after the body: neck and head.
        begin: Why the body begins where it does.
        end: Why the body ends where it does.
    """

    stem: tuple[Unit, ...]
    body: tuple[Unit, ...]
    after: tuple[Unit, ...]
    begin: str
    end: str

    @property
    def units(self) -> tuple[Unit, ...]:
        """All units, in order."""
        return (*self.stem, *self.body, *self.after)


def cut_units(units: tuple[Unit, ...], area_out: int | None, trunk: str = "") -> Cut:
    """Cut units, in order of use, before the first block and after the last one.

    A plain chain of layers is cut after its first layer and before its classifier. A model that
    says which part is its `backbone` is cut inside that; all else comes after the body. So is a
    model that predicts maps with what follows a `trunk`.

    Args:
        units: All units of the model.
        area_out: Positions in the model's output.
        trunk: Name of the module from `dense_trunk`; "" if there is none.
    """
    end = _backbone_end(units, trunk)
    if end < len(units):
        inner = cut_units(units[:end], area_out=1)  # it has no classifier of pixels
        whose = (
            f"{trunk}, of which the rest makes maps," if trunk else "what the model calls backbone"
        )
        why = inner.end if inner.after else f"{whose} ends here"
        return replace(inner, after=(*inner.after, *units[end:]), end=why)
    tail = classifier_start(units, area_out)
    first = next((i for i, unit in enumerate(units) if unit.weights), len(units))
    # A block that is not called as one, such as a network behind a table of positions, is none.
    blocks = [
        i
        for i in range(first + 1, tail)
        if units[i].kind == "stage" or (units[i].kind == "block" and units[i].called)
    ]
    classifier = " before the classifier" if any(unit.weights for unit in units[tail:]) else ""
    chain = _why_chain(units[:tail], units[: blocks[0]] if blocks else None)
    if chain:
        start = pass_ops(units, first + 1, tail)
        stop = pass_ops(units, tail, len(units)) if tail > start else tail
        begin = f"{chain}, so that the stem is the first layer and what belongs to it"
        why = "the classifier follows" if classifier else "no weight tensors follow"
    else:
        stages = [i for i in blocks if units[i].kind == "stage"]
        start, stop = blocks[0], (stages or blocks)[-1] + 1
        begin = f"{units[start].name} is the first {_noun(units[start])}"
        why = f"{units[stop - 1].name} is the last {_noun(units[stop - 1])}{classifier}"
    start = min(start, tail)
    stop = max(start, stop)
    rise = _first_rise(units, start, stop)
    if rise < stop:
        stop, why = rise, f"the resolution goes up again at {units[rise].name}"
    neck = next((i for i in range(start, stop) if is_neck(units[i])), stop)
    if neck < stop:
        stop, why = neck, f"the model calls {units[neck].name} a neck"
    return Cut(units[:start], units[start:stop], units[stop:], begin, why)


def _why_chain(units: Sequence[Unit], ahead: Sequence[Unit] | None) -> str:
    """Say why units are a plain chain of layers; "" if they are a stem and blocks.

    Args:
        units: All before the classifier.
        ahead: Those before the first block; None if there is no block.
    """
    if ahead is None:
        return "no unit between the first layer and the classifier is a block"
    layers = sum(unit.kind == "layer" for unit in ahead)
    if layers > STEM_LAYERS:  # VGG with blocks after it
        return f"{layers} layers come before the first block, and a stem has {STEM_LAYERS} at most"
    if sum(unit.weights for unit in ahead) >= STEM_SHARE * sum(unit.weights for unit in units):
        return "half of the weight tensors or more come before the first block"
    return ""


def _noun(unit: Unit) -> str:
    return "list of blocks" if unit.kind == "stage" else "block"


def _backbone_end(units: Sequence[Unit], trunk: str) -> int:
    """Return where the model's backbone ends: where all ends, if it names none."""
    inside = [i for i, unit in enumerate(units) if in_backbone(unit, trunk)]
    if trunk:
        return _trunk_end(units, inside[-1])
    weighty = [i for i in inside if units[i].weights]
    return weighty[-1] + 1 if weighty else len(units)


def dense_trunk(units: Sequence[Unit], openings: Sequence[Opening], area_out: int | None) -> str:
    """Return the module of which what follows makes maps: a trunk with a dense head.

    It is a module that was opened, and what the model uses after it keeps its last resolution, or
    lowers it as the extra layers of a detector do. A decoder raises it: that is no head.

    Args:
        units: The units of the model, in the order of use.
        openings: The modules that were opened.
        area_out: Positions in the model's output.

    Returns:
        Its dotted name; "" if there is none, or the model's output is no map.
    """
    if not makes_maps(area_out) or any(map(in_backbone, units)):
        return ""
    for name in sorted((opening.module for opening in openings), key=len):
        inside = [i for i, unit in enumerate(units) if unit.name.startswith(f"{name}.")]
        if not inside or any(unit.weights for unit in units[: inside[0]]):
            continue
        end = _trunk_end(units, inside[-1])
        after = [unit for unit in units[end:] if unit.weights]
        if after and not any(lowers(unit.area_out, units[end - 1].area_out) for unit in after):
            return name
    return ""


def _trunk_end(units: Sequence[Unit], last: int) -> int:
    """Return where a trunk ends: with its last unit, or those after it that go further down."""
    end, area = last + 1, next((u.area_out for u in units[last::-1] if u.area_out), None)
    for at in range(end, len(units)):
        if lowers(area, units[at].area_out):
            end, area = at + 1, units[at].area_out
    return end


def pass_ops(units: Sequence[Unit], at: int, end: int) -> int:
    """Pass the norms and activations that belong to the layer before them."""
    while at < end and units[at].kind in ("op", "norm"):
        if lowers(units[at].area_in, units[at].area_out) or units[at].rank_out == VECTOR_RANK:
            break
        at += 1
    return at


def _first_rise(units: Sequence[Unit], start: int, stop: int) -> int:
    """Return where the resolution goes up again: what decodes or fuses is no body.

    A second trunk begins with a high resolution too. It takes the model's own input.
    """
    area: int | None = None
    for at in range(start, stop):
        unit = units[at]
        if (
            not unit.first
            and lowers(unit.area_out, area)
            and unit.weights
            and len(unit.members) == 1
        ):
            return at
        area = unit.area_out or area
    return stop
