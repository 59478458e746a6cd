"""Where the classifier begins, and which units after the body make a neck."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from freezekit.staging.extent import VECTOR_RANK
from freezekit.staging.units import Unit, in_backbone, is_neck, lowers

if TYPE_CHECKING:
    from collections.abc import Sequence

CLASSIFIER_SHARE = Fraction(1, 2)
"""A list of blocks that returns vectors is no classifier if it holds this share of the weights.

It is the body with the pooling in it. Own models need both sides: a `Sequential` of blocks and a
pooling is taken for the classifier with more than 1, and a head of two perceptrons is taken for
body with 0. No model of timm or torchvision that was tried moves.
"""

POOLED_AREA = 9
"""Positions of the smallest map that a classifier pools.

A block that strides from 2x2 to 1x1 does not pool: with 4, `mobilenet_v2` on images of 32 pixels
loses the boundary before `features.14`. Classifiers that pool and then convolve need a bound below
their maps, 3x3 at the least.
"""


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


def classifier_start(units: Sequence[Unit], area_out: int | None) -> int:
    """Return where the classifier begins, with the pooling and norms before it."""
    weighty = [i for i, unit in enumerate(units) if unit.weights]
    if len(weighty) < 2:
        return len(units)
    at = _before_ops(units, len(units))
    total = sum(unit.weights for unit in units)
    while at and _classifies(units[at - 1], total):
        at = _before_ops(units, at - 1)
    if at - 1 == weighty[-1] and makes_maps(area_out) and _predicts_maps(units, weighty):
        at -= 1
    # Nothing but fully connected layers: the last one classifies.
    return at if at > weighty[0] else weighty[-2] + 1


def _predicts_maps(units: Sequence[Unit], weighty: Sequence[int]) -> bool:
    """Tell whether the last of the units with weights may be a classifier of pixels.

    It is one layer, or a block that keeps the resolution and is none of a row of blocks.
    """
    before, last = (units[i] for i in weighty[-2:])
    if last.kind == "layer":
        return True
    numbered = last.name.rpartition(".")[2].isdecimal()
    unlike = last.alone or (last.parent, last.type_name) != (before.parent, before.type_name)
    lower = lowers(before.area_out, last.area_out)
    return last.kind == "block" and last.called and unlike and not numbered and not lower


def _before_ops(units: Sequence[Unit], at: int) -> int:
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


def cut_tail(tail: tuple[Unit, ...], area_out: int | None, trunk: str = "") -> Tail:
    """Cut what follows the body into neck, which may be empty, and head.

    Args:
        tail: The units after the body.
        area_out: Positions in the model's output.
        trunk: Name of the module from `dense_trunk`; "" if there is none.
    """
    inside = [in_backbone(unit, trunk) for unit in tail]
    if (trunk or any(inside)) and not inside[-1]:
        inner = [i for i, unit in enumerate(tail) if inside[i] or is_neck(unit)]
        stop = max((i for i in inner if is_neck(tail[i]) or _maps(tail[i])), default=-1) + 1
        why = "is the last unit of the model's backbone and necks that returns a map"
        return _divided(tail, stop, stop, why)
    weighty = [i for i, unit in enumerate(tail) if unit.weights]
    if weighty and (
        makes_maps(area_out) or tail[weighty[-1]].vector or tail[weighty[-1]].classifies
    ):
        weighty.pop()  # the classifier
    last = stop = max((i for i in weighty if projects(tail[i])), default=-1) + 1
    while 0 < stop < len(tail) and tail[stop].kind == "norm":
        stop += 1  # the norm of a projection goes with it
    return _divided(tail, last, stop, "is the last unit that projects before the classifier")


def projects(unit: Unit) -> bool:
    """Tell whether a unit after the body is no part of the classifier.

    It makes no vector, as `conv_head`, or says so: `pre_logits` is what timm calls a projection
    that does make one. What refines an answer again and again, as optical flow does, is the head's.
    """
    if unit.classifies or unit.loops:
        return False
    return unit.rank_out not in (VECTOR_RANK, None) or unit.name.endswith("pre_logits")


def _divided(tail: tuple[Unit, ...], last: int, stop: int, why: str) -> Tail:
    """Divide at `stop`; the unit before `last` is what decides."""
    return Tail(tail[:stop], tail[stop:], f"{tail[last - 1].name} {why}" if last else "")


def _maps(unit: Unit) -> bool:
    return bool(unit.weights) and not unit.vector


def makes_maps(area_out: int | None) -> bool:
    """Tell whether a model with so many positions in its output predicts maps."""
    return area_out is None or area_out > 1
