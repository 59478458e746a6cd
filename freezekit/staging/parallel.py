"""Parallel lists: one list per kind of layer, whose parts the forward uses in turns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from freezekit.staging.units import Unit, UnitKind, lowers, merged_unit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def zip_lists(units: Sequence[Unit], parts: Callable[[str], Sequence[Unit]]) -> tuple[Unit, ...]:
    """Return the units; parallel lists among them are replaced by their turns.

    A model may keep its attentions in one list, its norms in the next and its feed-forwards in a
    third. A turn is what it uses from each part of the list that it begins with to the next: one
    attention, its norms, one feed-forward. It is a block, as if a module held it.

    Lists in which the resolution falls are left: their parts may belong to several stages.

    Args:
        units: The units directly inside a module, in the order of use.
        parts: From the name of a list to the units in it.

    Example:
        >>> def layer(name, at):
        ...     return Unit(name, "layer", at, at, weights=1, members=(name,))
        >>> inside = {"convs": [layer("convs.0", 1), layer("convs.1", 3)],
        ...           "mixes": [layer("mixes.0", 2), layer("mixes.1", 4)]}
        >>> spans = {"convs": (1, 3), "mixes": (2, 4)}
        >>> lists = [Unit(name, "block", *span, alone=True) for name, span in spans.items()]
        >>> [(turn.name, turn.kind, turn.members) for turn in zip_lists(lists, inside.get)]
        [('convs.0', 'block', ('convs.0', 'mixes.0')), ('convs.1', 'block', ('convs.1', 'mixes.1'))]
    """
    lists = [
        unit
        for unit in units
        if (unit.alone or unit.type_name == nn.ParameterList.__name__)
        and not unit.called
        and not lowers(unit.area_in, unit.area_out)
    ]
    turns: list[Unit] = []
    parallel: list[Unit] = []
    for together in _overlapping(lists):
        parallel += together
        turns += [
            merged_unit(turn, _kind(turn)) for turn in _turns([parts(u.name) for u in together])
        ]
    rest = [unit for unit in units if unit not in parallel]
    return tuple(sorted([*rest, *turns], key=lambda unit: unit.start))


def _overlapping(lists: Sequence[Unit]) -> list[list[Unit]]:
    """Return the lists that are used in turns, those that belong together in one group."""
    groups: list[list[Unit]] = []
    for unit in lists:  # in the order of use
        if groups and any(unit.start < other.stop for other in groups[-1]):
            groups[-1].append(unit)
        else:
            groups.append([unit])
    return [group for group in groups if len(group) > 1]


def _turns(lists: Sequence[Sequence[Unit]]) -> list[list[Unit]]:
    """Divide the parts of parallel lists where the list that is used first goes on.

    It may have several parts in a turn, as two norms around one attention.
    """
    leader = min(lists, key=lambda parts: parts[0].start)
    count = min(map(len, lists))
    step = len(leader) // count if len(leader) % count == 0 else 1
    begins = {part.name for part in leader[::step]}
    turns: list[list[Unit]] = []
    for part in sorted((part for parts in lists for part in parts), key=lambda unit: unit.start):
        if part.name in begins:
            turns.append([])
        turns[-1].append(part)
    return turns


def _kind(turn: Sequence[Unit]) -> UnitKind:
    if any(part.kind == "stage" for part in turn):
        return "stage"
    weights = sum(part.weights for part in turn)
    return "norm" if weights == 0 else "layer" if weights == 1 else "block"
