"""Where the stem ends, and where body, neck and head begin, in a row of units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from freezekit.staging.extent import VECTOR_RANK
from freezekit.staging.units import Unit, lowers

if TYPE_CHECKING:
    from collections.abc import Sequence

BLOCKS = ("block", "stage")

STEM_LAYERS = 6
"""Layers that a stem has at most."""

STEM_SHARE = Fraction(1, 2)
"""A stem holds less than this share of the weights before the classifier."""

CLASSIFIER_SHARE = Fraction(1, 2)
"""A list of blocks that returns vectors and holds this share of the weights is no classifier."""

POOLED_AREA = 9
"""Positions of the smallest map that a classifier pools."""

NECKS = ("neck", "fpn")
"""What models call a part that fuses the maps of a backbone."""


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


@dataclass(frozen=True)
class Tail:
    """What follows the body, divided.

    Attributes:
        neck: Units of the neck, which may be none.
        head: Units of the head.
        because: Why the neck ends where it does.
    """

    neck: tuple[Unit, ...]
    head: tuple[Unit, ...]
    because: str


def cut_units(units: tuple[Unit, ...], area_out: int | None) -> Cut:
    """Cut units, in order of use, before the first block and after the last one.

    A plain chain of layers is cut after its first layer and before its classifier. A model that
    says which part is its `backbone` is cut inside that; all else comes after the body.

    Args:
        units: All units of the model.
        area_out: Positions in the model's output.
    """
    end = _backbone_end(units)
    if end < len(units):
        inner = cut_units(units[:end], area_out=1)  # it has no classifier of pixels
        why = inner.end if inner.after else "the part that the model calls backbone ends here"
        return replace(inner, after=(*inner.after, *units[end:]), end=why)
    tail = _tail(units, area_out)
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
        start = _pass_lights(units, first + 1, tail)
        stop = _pass_lights(units, tail, len(units)) if tail > start else tail
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


def cut_tail(tail: tuple[Unit, ...], area_out: int | None) -> Tail:
    """Cut what follows the body into neck, which may be empty, and head."""
    if any(in_backbone(unit) for unit in tail) and not in_backbone(tail[-1]):
        inner = [i for i, unit in enumerate(tail) if in_backbone(unit) or is_neck(unit)]
        stop = max((i for i in inner if is_neck(tail[i]) or _maps(tail[i])), default=-1) + 1
        why = "is the last unit of the model's backbone and necks that returns a map"
        return _divided(tail, stop, stop, why)
    weighty = [i for i, unit in enumerate(tail) if unit.weights]
    if weighty and (_dense(area_out) or tail[weighty[-1]].vector or tail[weighty[-1]].classifies):
        weighty.pop()  # the classifier
    last = stop = max((i for i in weighty if projects(tail[i])), default=-1) + 1
    while 0 < stop < len(tail) and tail[stop].kind == "norm":
        stop += 1  # the norm of a projection goes with it
    return _divided(tail, last, stop, "is the last unit before the classifier that projects")


def projects(unit: Unit) -> bool:
    """Tell whether a unit after the body is no part of the classifier.

    It makes no vector, as `conv_head`, or says so: `pre_logits` is what timm calls a projection
    that does make one. What refines an answer again and again, as optical flow does, is the head's.
    """
    if unit.classifies or unit.loops:
        return False
    return unit.rank_out not in (VECTOR_RANK, None) or unit.name.endswith("pre_logits")


def in_backbone(unit: Unit) -> bool:
    """Tell whether a unit lies in what the model itself calls its backbone.

    Wrappers such as DistributedDataParallel put names of their own before that.
    """
    parts = unit.name.split(".")
    while parts[0] in ("module", "_orig_mod") and len(parts) > 1:
        parts.pop(0)
    return parts[0] == "backbone"


def is_neck(unit: Unit) -> bool:
    """Tell whether the model calls this a neck."""
    return bool(unit.weights) and not set(NECKS).isdisjoint(unit.name.split("."))


def _divided(tail: tuple[Unit, ...], last: int, stop: int, why: str) -> Tail:
    """Divide at `stop`; the unit before `last` is what decides."""
    return Tail(tail[:stop], tail[stop:], f"{tail[last - 1].name} {why}" if last else "")


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


def _maps(unit: Unit) -> bool:
    return bool(unit.weights) and not unit.vector


def _backbone_end(units: Sequence[Unit]) -> int:
    """Return where the model's backbone ends: where all ends, if it names none."""
    inside = [i for i, unit in enumerate(units) if in_backbone(unit) and unit.weights]
    return inside[-1] + 1 if inside else len(units)


def _dense(area_out: int | None) -> bool:
    """Tell whether the model's output is a map."""
    return area_out is None or area_out > 1


def _tail(units: Sequence[Unit], area_out: int | None) -> int:
    """Return where the classifier begins, with the pooling and norms before it."""
    weighty = [i for i, unit in enumerate(units) if unit.weights]
    if len(weighty) < 2:
        return len(units)
    at = _before_lights(units, len(units))
    total = sum(unit.weights for unit in units)
    while at and _classifies(units[at - 1], total):
        at = _before_lights(units, at - 1)
    if at - 1 == weighty[-1] and _dense(area_out) and units[at - 1].kind == "layer":
        at -= 1  # a classifier of pixels
    # Nothing but fully connected layers: the last one classifies.
    return at if at > weighty[0] else weighty[-2] + 1


def _before_lights(units: Sequence[Unit], at: int) -> int:
    while at and not units[at - 1].weights:
        at -= 1
    return at


def _classifies(unit: Unit, total: int) -> bool:
    """Tell whether this works on vectors, or pools and then does."""
    if unit.classifies:
        return True
    if unit.kind == "stage" and (
        unit.rank_out != VECTOR_RANK or unit.weights >= CLASSIFIER_SHARE * total
    ):
        return False
    pools = unit.area_in is None or unit.area_in == 1 or unit.area_in >= POOLED_AREA
    return unit.vector and (unit.rank_out == VECTOR_RANK or (pools and not in_backbone(unit)))


def _pass_lights(units: Sequence[Unit], at: int, end: int) -> int:
    """Pass the norms and activations that belong to the layer before them."""
    while at < end and units[at].kind in ("light", "norm"):
        if lowers(units[at].area_in, units[at].area_out) or units[at].rank_out == VECTOR_RANK:
            break
        at += 1
    return at


def _first_rise(units: Sequence[Unit], start: int, stop: int) -> int:
    """Return where the resolution goes up again: what decodes or fuses is no body."""
    area: int | None = None
    for at in range(start, stop):
        unit = units[at]
        if lowers(unit.area_out, area) and unit.weights and len(unit.members) == 1:
            return at
        area = unit.area_out or area
    return stop
