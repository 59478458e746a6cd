"""What all ranks must decide alike, and means that are equal on all of them."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

from freezekit.errors import FreezeError
from freezekit.schedules.rendezvous import exchange, party_of, ranks_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import distributed

SHOWN_CHARACTERS = 60
"""Of each value in an error: a plan as text fills a screen."""


def has_other_ranks(group: distributed.ProcessGroup | None = None) -> bool:
    """Tell whether this process trains together with others."""
    return party_of(group, "", "") is not None


def agree(
    what: str, facts: Mapping[str, str], group: distributed.ProcessGroup | None = None
) -> None:
    """Raise on all ranks where they were given different facts.

    Every rank must call it. Without a process group of several ranks, it does nothing.

    Args:
        what: The function that users call on all ranks, such as "change_". Errors name it.
        facts: By name, what must be the same on all ranks: a plan, a step.
        group: The ranks. None stands for all.

    Raises:
        FreezeError: The facts differ, or some ranks did not call it within a minute.

    Example:
        >>> agree("change_", {"plan": "full"})  # one process agrees with itself
    """
    party = party_of(group, what, "compares what it was given")
    if party is None:
        return
    found = exchange(facts, party)
    names = sorted({name for given in found.values() for name in given})
    differing = [n for n in names if len({given.get(n) for given in found.values()}) > 1]
    if not differing:
        return
    by_rank = {rank: found.get(rank, found[party.ranks[0]]) for rank in party.ranks}
    said = "; ".join(f"{name} is {_values(name, by_rank)}" for name in differing)
    raise FreezeError(f"{what} was not called alike on all ranks: {said}; give every rank the same")


def mean_over_ranks(
    values: Mapping[str, float],
    group: distributed.ProcessGroup | None = None,
    *,
    what: str = "mean_over_ranks",
) -> dict[str, float]:
    """Return the mean of each value over the ranks, in double precision, with equal bits on all.

    Every rank must call it. Without a process group of several ranks, it returns the values given.
    A NaN or infinity on one rank makes the mean that on all.

    Args:
        values: Such as the metrics of an epoch, by name.
        group: The ranks. None stands for all.
        what: The function that users call on all ranks. Errors name it.

    Raises:
        FreezeError: The names differ between ranks, or some ranks did not call it within a minute.

    Example:
        >>> mean_over_ranks({"loss": 2})
        {'loss': 2.0}
    """
    mine = {name: float(value) for name, value in values.items()}
    party = party_of(group, what, "takes the mean of metrics")
    if party is None:
        return mine
    found = exchange({name: value.hex() for name, value in mine.items()}, party)
    by_rank = {rank: found.get(rank, found[party.ranks[0]]) for rank in party.ranks}
    names = {rank: {"names": ", ".join(sorted(given))} for rank, given in by_rank.items()}
    if any(given.keys() != mine.keys() for given in found.values()):
        raise FreezeError(
            f"the metrics differ between ranks: {what} was given {_values('names', names)}; give "
            "every rank the same names"
        )
    means: dict[str, float] = {}
    for name in mine:
        total = 0.0
        for given in by_rank.values():  # in one order, so that the bits are equal
            total += float.fromhex(given[name])
        means[name] = total / len(party.ranks)
    return means


def _values(name: str, by_rank: Mapping[int, Mapping[str, str]]) -> str:
    """Return each value of a name with the ranks that have it."""
    having: dict[str | None, list[int]] = {}
    for rank, facts in by_rank.items():
        having.setdefault(facts.get(name), []).append(rank)
    texts = [value for value in having if value is not None]
    alike = takewhile(lambda characters: len(set(characters)) == 1, zip(*texts, strict=False))
    start = len(list(alike))
    return " and ".join(
        f"{'missing' if value is None else _short(value, start)} on {ranks_text(ranks)}"
        for value, ranks in having.items()
    )


def _short(value: str, start: int) -> str:
    """Return a value in quotes; of a long one, the part where it begins to differ."""
    if len(value) <= SHOWN_CHARACTERS:
        return repr(value)
    first = max(0, start - SHOWN_CHARACTERS // 3)
    return f"{value[first : first + SHOWN_CHARACTERS]!r} (a part of it)"
