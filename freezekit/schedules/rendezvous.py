"""An exchange of small data between processes that never waits for ever.

It goes through the key-value store by which the process group was made. A collective operation that
one rank does not join would hang, or leave the group in a state of which nothing can be said.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from torch import distributed

from freezekit.errors import FreezeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch._C._distributed_c10d import Store

TIMEOUT_SECONDS = 60.0
"""How long a rank waits for the others. Ranks reach one line of a script within seconds."""

_rounds: Counter[tuple[str, tuple[int, ...]]] = Counter()
"""The number of rounds so far, by the call that they serve and the ranks that took part."""


@dataclass(frozen=True)
class Party:
    """The ranks that a call expects, and what it does there: its errors say so.

    Attributes:
        call: The function that all ranks must call, as users write it.
        does: What it does with several ranks: "compares the model".
        ranks: All that take part, by their numbers in the default process group.
        rank: This one.
    """

    call: str
    does: str
    ranks: tuple[int, ...]
    rank: int


def party_of(group: distributed.ProcessGroup | None, call: str, does: str) -> Party | None:
    """Return the party of a process group; None where this process has nobody to meet.

    Example:
        >>> party_of(None, "change_", "compares the plan") is None  # no process group
        True
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return None
    if distributed.get_backend() == "fake":  # one process that plays a rank
        return None
    rank = distributed.get_rank()
    if distributed.get_rank(group) < 0:  # outside of the group
        return None
    ranks = tuple(distributed.get_process_group_ranks(group))
    return Party(call, does, ranks, rank) if len(ranks) > 1 else None


def exchange(mine: Mapping[str, str], party: Party) -> dict[int, dict[str, str]]:
    """Return what each rank gave; a rank that gave the same as the first is left out.

    Args:
        mine: What this rank gives.
        party: The ranks that take part.

    Raises:
        FreezeError: Some ranks did not call it within `TIMEOUT_SECONDS`, or the store failed.
    """
    store = distributed.distributed_c10d._get_default_store()
    try:
        return _exchange(mine, store, party)
    except RuntimeError as error:
        raise FreezeError(
            f"{party.call} {party.does} on all ranks, and another rank could not be reached: "
            f"{error}; is every process of the process group alive?"
        ) from error


@dataclass(frozen=True)
class _Round:
    """One attempt of all ranks to meet: all take part in it, or it is called off for all."""

    store: Store
    party: Party
    number: int

    def key(self, what: object) -> str:
        named = f"{self.party.call} {self.party.ranks}"
        digest = hashlib.blake2b(named.encode(), digest_size=8).hexdigest()
        return f"freezekit/{digest}/{self.number}/{what}"

    def is_on(self, seconds: float) -> bool:
        """Arrive and wait for the others; False if the round was called off before this rank came.

        Raises:
            FreezeError: Not all came in time. The round is called off.
        """
        call, ranks = self.party.call, self.party.ranks
        is_last = self.store.add(self.key("arrived"), 1) == len(ranks)
        decision = "on" if is_last else "off"
        if is_last or self.store.check([self.key("state")]):  # nothing to wait for
            # The first decision stands, and all ranks learn the same.
            return bool(self.store.compare_set(self.key("state"), "", decision) == b"on")
        with suppress(RuntimeError):  # in time nobody has decided
            self.store.wait([self.key("state")], timedelta(seconds=seconds))
        if self.store.compare_set(self.key("state"), "", decision) == b"on":
            return True
        # Also where another rank, which waited for the same ones, was the first to call it off.
        missing = [r for r in ranks if not self.store.check([self.key(r)])]
        raise FreezeError(
            f"{call} was called on rank {self.party.rank}, but within {seconds:g} s not on "
            f"{ranks_text(missing)}: it {self.party.does} on all {len(ranks)} ranks; call it "
            "on every rank, or before the process group is initialized"
        )

    def forget(self) -> None:
        """Remove what this rank and all ranks left in the store; all of them are done with it."""
        shared = ("arrived", "state", "found", "read", "end")
        is_first = self.party.rank == self.party.ranks[0]
        for what in (self.party.rank, f"{self.party.rank}/all", *(shared if is_first else ())):
            self.store.delete_key(self.key(what))


def ranks_text(ranks: Sequence[int]) -> str:
    """Return "rank 1" or "ranks 1, 2".

    Example:
        >>> ranks_text([1, 2])
        'ranks 1, 2'
    """
    return f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}"


def _exchange(mine: Mapping[str, str], store: Store, party: Party) -> dict[int, dict[str, str]]:
    data = json.dumps(mine, sort_keys=True)
    counted = party.call, party.ranks
    while True:
        this = _Round(store, party, _rounds[counted])
        store.set(f"{this.key(party.rank)}/all", data)
        store.set(this.key(party.rank), hashlib.blake2b(data.encode()).hexdigest())
        _rounds[counted] += 1  # also if it is called off, so that all ranks count alike
        if this.is_on(TIMEOUT_SECONDS):
            break
    seconds = timedelta(seconds=TIMEOUT_SECONDS)
    if party.rank == party.ranks[0]:  # it alone reads all, so that the cost grows with the ranks
        store.set(this.key("found"), json.dumps(_gathered(this)))
    store.wait([this.key("found")], seconds)
    found = json.loads(store.get(this.key("found")))
    # The process that has the store may end after this call: it waits until all have read.
    with suppress(RuntimeError):
        if store.add(this.key("read"), 1) == len(party.ranks):
            store.set(this.key("end"), "")
        store.wait([this.key("end")], seconds)
        store.delete_key(f"{this.key(party.rank)}/all")
        if this.number:  # whoever is in this round has left the one before
            _Round(store, party, this.number - 1).forget()
    return {int(rank): facts for rank, facts in found.items()}


def _gathered(this: _Round) -> dict[int, dict[str, str]]:
    ranks = this.party.ranks
    digests = {rank: this.store.get(this.key(rank)) for rank in ranks}
    return {
        rank: json.loads(this.store.get(f"{this.key(rank)}/all"))
        for rank in ranks
        if rank == ranks[0] or digests[rank] != digests[ranks[0]]
    }
