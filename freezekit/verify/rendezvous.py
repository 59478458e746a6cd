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

from freezekit.errors import FreezeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch._C._distributed_c10d import Store

TIMEOUT_SECONDS = 60.0
"""How long a rank waits for the others. Ranks reach one line of a script within seconds."""

_rounds: Counter[tuple[int, ...]] = Counter()
"""The number of rounds so far, by the ranks that took part."""


@dataclass(frozen=True)
class _Round:
    """One attempt of all ranks to meet: all take part in it, or it is called off for all."""

    store: Store
    ranks: tuple[int, ...]
    rank: int
    number: int

    def key(self, what: object) -> str:
        ranks = hashlib.blake2b(repr(self.ranks).encode(), digest_size=8).hexdigest()
        return f"freezekit/verify/{ranks}/{self.number}/{what}"

    def is_on(self, seconds: float) -> bool:
        """Arrive and wait for the others; False if another rank called the round off.

        Raises:
            FreezeError: Not all came in time. The round is called off.
        """
        is_last = self.store.add(self.key("arrived"), 1) == len(self.ranks)
        timed_out = False
        if not is_last:
            try:
                self.store.wait([self.key("state")], timedelta(seconds=seconds))
            except RuntimeError:
                timed_out = True
        # The first decision stands, and all ranks learn the same.
        state = self.store.compare_set(self.key("state"), "", "on" if is_last else "off")
        if state == b"on":
            return True
        if timed_out:
            missing = [r for r in self.ranks if not self.store.check([self.key(r)])]
            which = f"rank{'s' * (len(missing) > 1)} {', '.join(map(str, missing))}"
            raise FreezeError(
                f"verify was called on rank {self.rank}, but within {seconds:g} s not on {which}: "
                f"it compares the model on all {len(self.ranks)} ranks; call it on every rank, or "
                "before the process group is initialized"
            )
        return False


def exchange(
    mine: Mapping[str, str], store: Store, ranks: Sequence[int], rank: int
) -> dict[int, dict[str, str]]:
    """Return what each rank gave; a rank that gave the same as the first is left out.

    Args:
        mine: What this rank gives.
        store: Of the default process group.
        ranks: All that take part.
        rank: This one.

    Raises:
        FreezeError: Some ranks did not call it within `TIMEOUT_SECONDS`, or the store failed.
    """
    try:
        return _exchange(mine, store, tuple(ranks), rank)
    except RuntimeError as error:
        raise FreezeError(
            f"the model could not be compared with other ranks: {error}; is every process of the "
            "process group alive?"
        ) from error


def _exchange(
    mine: Mapping[str, str], store: Store, ranks: tuple[int, ...], rank: int
) -> dict[int, dict[str, str]]:
    data = json.dumps(mine, sort_keys=True)
    while True:
        this = _Round(store, ranks, rank, _rounds[ranks])
        store.set(f"{this.key(rank)}/all", data)
        store.set(this.key(rank), hashlib.blake2b(data.encode()).hexdigest())
        _rounds[ranks] += 1  # also if it is called off, so that all ranks count alike
        if this.is_on(TIMEOUT_SECONDS):
            break
    digests = {other: store.get(this.key(other)) for other in ranks}
    found = {
        other: json.loads(store.get(f"{this.key(other)}/all"))
        for other in ranks
        if other == ranks[0] or digests[other] != digests[ranks[0]]
    }
    # The process that has the store may end after this call: it waits until all have read.
    with suppress(RuntimeError):
        if store.add(this.key("read"), 1) == len(ranks):
            store.set(this.key("end"), "")
        store.wait([this.key("end")], timedelta(seconds=TIMEOUT_SECONDS))
        store.delete_key(f"{this.key(rank)}/all")
    return found
