"""What lies beside the body: auxiliary classifiers, teachers, and the ends of several trunks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from freezekit.staging.classifier import classifier_start
from freezekit.staging.cutting import pass_ops
from freezekit.staging.units import trunks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from freezekit.staging.sources import Sources
    from freezekit.staging.units import Unit


LEAST_HEADS = 2
"""Heads that a list of heads holds at least: with one, a list around the last block is a head."""


@dataclass(frozen=True)
class Beside:
    """The units of a model, divided into what the body is looked for in and what lies beside it.

    Attributes:
        units: In the order of use, without those beside.
        teachers: They go with the stem, as no gradient reaches them.
        ends: Classifiers of trunks before the last one. They go with the head.
        exits: Units on which nothing later depends, such as an auxiliary classifier. They go with
            the head.
        ops: Modules without parameters that work on what ends and exits make.
        idle: Units on which no output depends, as the layers of an encoder after the last map that
            a hook takes. They go with the stage before them, and with the head if they take what
            it makes, as a pooling does whose output nobody uses.
    """

    units: tuple[Unit, ...]
    teachers: tuple[Unit, ...]
    ends: tuple[Unit, ...]
    exits: tuple[Unit, ...]
    ops: tuple[Unit, ...]
    idle: tuple[Unit, ...]

    @property
    def first(self) -> tuple[Unit, ...]:
        """What goes with the stem, whenever it is called."""
        return tuple(replace(unit, start=0, stop=0) for unit in self.teachers)

    def last(self, end: int) -> tuple[Unit, ...]:
        """Return what goes with the head: what is called half-way comes last all the same."""
        late = (*self.ends, *self.exits, *self.ops)
        return tuple(replace(unit, start=end, stop=end) for unit in late)


def lay_aside(
    sources: Sources,
    units: Sequence[Unit],
    area_out: int | None,
    parts: Callable[[str], Sequence[Unit]],
) -> Beside:
    """Divide the units of a model.

    Args:
        sources: With which parameters the outputs of units were made.
        units: The units of the model, in the order of use.
        area_out: Positions in the model's output.
        parts: From the name of a list to the units in it.
    """
    ops = [unit for unit in units if unit.kind == "op"]
    taught = teachers(sources, units)
    own = sources.own(taught)
    taught += tuple(op for op in ops if (made := sources.data([op])) and not made & ~own)
    branches = exits(sources, units)
    branches += tuple(u for u in lists_of_heads(sources, units, parts) if u not in branches)
    idle = run_for_nothing(sources, [unit for unit in units if unit not in (*taught, *branches)])
    left = [unit for unit in units if unit not in (*taught, *branches, *idle)]
    ends = trunk_ends(sources, left, area_out)
    late = sources.needing((*ends, *branches), (op for op in ops if op not in taught))
    body = tuple(unit for unit in left if unit not in (*ends, *late))
    return Beside(body, taught, ends, branches, late, idle)


def exits(sources: Sources, units: Sequence[Unit]) -> tuple[Unit, ...]:
    """Return the units that branch off the trunk: nothing that is called later depends on them.

    An example is an auxiliary classifier that is called half-way: something later depends on what
    feeds it. The first of two trunks does not branch off.

    Args:
        sources: With which parameters the outputs of units were made.
        units: The units of the model, in the order of use.
    """
    weighty = [unit for unit in units if unit.weights]
    found = []
    for unit in filter(sources.graded, weighty):
        later = [other for other in weighty if other.start > unit.stop]
        needed, own = sources.data(later), sources.own([unit])
        branches = sources.reach([unit]) & ~own & needed
        # Classifiers may be joined too, as an average. Other branches that are joined are trunks.
        alone = sources.as_output(unit) or not sources.joined(unit, later)
        if branches and not own & needed and alone:
            found.append(unit)
    return tuple(found)


def lists_of_heads(
    sources: Sources, units: Sequence[Unit], parts: Callable[[str], Sequence[Unit]]
) -> tuple[Unit, ...]:
    """Return the lists of heads: none takes what another makes, and nothing later does.

    Encoders in a list are no heads: they take the model's own input.

    Args:
        sources: With which parameters the outputs of units were made.
        units: The units of the model, in the order of use.
        parts: From the name of a list to the units in it.
    """

    def holds_heads(unit: Unit) -> bool:
        heads = [part for part in parts(unit.name) if part.weights]
        apart = all(
            not sources.needing([head], [other for other in heads if other is not head])
            for head in heads
        )
        fed = sources.data([unit]) & ~sources.own([unit])
        later = [other for other in units if other.start > unit.stop and other.weights]
        return (
            len(heads) >= LEAST_HEADS and bool(fed) and apart and not sources.needing([unit], later)
        )

    return tuple(unit for unit in units if unit.alone and not unit.called and holds_heads(unit))


def teachers(sources: Sources, units: Sequence[Unit]) -> tuple[Unit, ...]:
    """Return the units that have no gradients, beside others that take the model's own input.

    These are a teacher, and the momentum encoder of a student. What is trained takes nothing of
    theirs, and they take nothing of it: encoders under `no_grad` that feed a trained head are no
    teachers, nor are layers that the forward runs for nothing.

    Args:
        sources: With which parameters the outputs of units were made.
        units: The units of the model, in the order of use.
    """
    trained = [unit for unit in units if unit.weights and sources.graded(unit)]
    if not any(unit.first for unit in trained):
        return ()
    needed, own = sources.data(trained), sources.own(trained)
    return tuple(
        unit
        for unit in units
        if unit.kind != "op"
        and not sources.graded(unit)
        and not sources.own([unit]) & needed
        and not sources.data([unit]) & own
    )


def run_for_nothing(sources: Sources, units: Sequence[Unit]) -> tuple[Unit, ...]:
    """Return the units that take what is trained, and that no output depends on.

    timm's models that give their features by hooks run to their end, whatever features are asked
    for.

    Args:
        sources: With which parameters the outputs of units were made.
        units: The units of the model, in the order of use.
    """
    trained = [unit for unit in units if sources.graded(unit)]
    own, needed = sources.own(trained), sources.data(trained)
    return tuple(
        unit
        for unit in units
        if unit.weights
        and not sources.graded(unit)
        and sources.data([unit]) & own
        and not sources.own([unit]) & needed
    )


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
