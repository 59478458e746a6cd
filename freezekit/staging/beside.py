"""What lies beside the body: auxiliary classifiers, teachers, and the ends of several trunks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.staging.classifier import classifier_start
from freezekit.staging.cutting import pass_ops
from freezekit.staging.units import trunks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.staging.sources import Sources
    from freezekit.staging.units import Unit


def exits(sources: Sources, units: Sequence[Unit]) -> tuple[Unit, ...]:
    """Return the units beside the trunk: nothing that is called later depends on them.

    Examples are an auxiliary classifier that is called half-way, and a teacher. A classifier
    branches off: something later depends on what feeds it. The first of two trunks does not. A
    teacher has no gradients, beside a student that takes the model's own input too.

    Args:
        sources: With which parameters the outputs of units were made.
        units: The units of the model, in the order of use.
    """
    weighty = [unit for unit in units if unit.weights]
    trained = [unit for unit in weighty if sources.graded(unit)]
    found = []
    for unit in units:
        graded = sources.graded(unit)
        if unit.kind == "op" or (graded and not unit.weights):
            continue
        others = [u for u in weighty if u.start > unit.stop] if graded else trained
        needed, own = sources.data(others), sources.own([unit])
        if own & needed or sources.joins(unit, others):
            continue
        branches = sources.reach([unit]) & ~own & needed
        if branches if graded else any(other.first for other in others):
            found.append(unit)
    return tuple(found)


def trunk_ends(sources: Sources, units: Sequence[Unit], area_out: int | None) -> tuple[Unit, ...]:
    """Return the classifiers of all trunks but the last, where no body of another needs them.

    An encoder of vectors beside trunks of images, such as one for a table, is as a whole no body.

    Args:
        sources: With which parameters the outputs of units were made.
        units: The units of the model, in the order of use.
        area_out: Positions in the model's output.
    """
    *others, last = trunks(units)
    flat = [_makes_vectors_alone(trunk) for trunk in (*others, last)]
    found: list[Unit] = []
    body = last[: classifier_start(last, area_out)]
    for trunk in reversed(others):
        whole = _makes_vectors_alone(trunk) and not all(flat)
        at = 0 if whole else classifier_start(trunk, 1)
        if at and trunk[at - 1].kind == "layer":
            at = pass_ops(trunk, at, len(trunk))
        ends = [unit for unit in trunk[at:] if unit.kind != "op"]
        if not sources.needing(ends, (unit for unit in body if unit.kind != "op")):
            found = [*ends, *found]
        body = [*trunk[:at], *body]
    return tuple(found)


def _makes_vectors_alone(trunk: Sequence[Unit]) -> bool:
    return all(unit.vector and not unit.levels for unit in trunk if unit.weights)
