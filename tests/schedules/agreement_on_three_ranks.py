"""A script for ranks: facts and means that three ranks must have alike.

Run by `test_agreement.py`, which reads what each situation returns.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from torch import distributed

from freezekit import FreezekitError
from freezekit.schedules import rendezvous
from freezekit.schedules.agreement import agree, mean_over_ranks

if TYPE_CHECKING:
    from collections.abc import Callable


def rank() -> int:
    return distributed.get_rank()


def same() -> None:
    for step in range(20):
        agree("change_", {"plan": "full", "step": str(step)})


def one_differs() -> None:
    plan = "head-only" if rank() == 1 else "full"
    agree("change_", {"plan": plan, "step": "3"})


def all_differ() -> None:
    agree("change_", {"plan": "frozen, " * 40 + f"rate {rank()}", "step": str(rank())})


def one_lacks() -> None:
    agree("change_", {"plan": "full"} | ({} if rank() == 2 else {"step": "3"}))


def one_is_absent() -> None:
    if rank() != 1:
        agree("change_", {"plan": "full"})


def another_call() -> None:
    """Let ranks meet in different functions: it must not be taken for a meeting."""
    agree("follow" if rank() == 1 else "change_", {"plan": "full"})


def in_a_group() -> list[dict[str, float]]:
    outer = distributed.new_group([0, 2])
    agree("change_", {"plan": "a" if rank() == 1 else "b"}, outer)  # rank 1 is outside
    return [mean_over_ranks({"loss": float(rank() ** 2)}, outer)]


def means() -> list[str]:
    losses = 0.1, 0.7, 1e17
    found = mean_over_ranks({"loss": losses[rank()], "accuracy": 0.5})
    return [f"{name} {value.hex()}" for name, value in found.items()]


def not_finite() -> list[str]:
    values = {"nan": float("nan") if rank() == 1 else 1.0, "inf": float("inf")}
    values["both"] = float("inf") * (-1) ** rank()
    return [repr(value) for value in mean_over_ranks(values).values()]


def other_names() -> dict[str, float]:
    return mean_over_ranks({"loss": 1.0} | ({"accuracy": 1.0} if rank() == 0 else {}))


def keys_left_in_the_store() -> list[int]:
    """Return how many keys many rounds add to the store."""
    store = distributed.distributed_c10d._get_default_store()
    counted = []
    for _ in range(2):
        for _ in range(10):
            mean_over_ranks({"loss": float(rank())})
        distributed.barrier()
        counted.append(store.num_keys())
        distributed.barrier()
    return counted


SITUATIONS: dict[str, Callable[[], object]] = {
    "same": same,
    "one differs": one_differs,
    "all differ": all_differ,
    "one lacks": one_lacks,
    "one is absent": one_is_absent,
    "another call": another_call,
    "in a group": in_a_group,
    "means": means,
    "not finite": not_finite,
    "other names": other_names,
    "keys left": keys_left_in_the_store,
    "same again": same,  # attempts that were called off leave nothing behind
}


def main(folder: Path) -> None:
    distributed.init_process_group("gloo")
    for name, situation in SITUATIONS.items():
        short = situation in (one_is_absent, another_call)
        rendezvous.TIMEOUT_SECONDS = 4.0 if short else 60.0
        try:
            found = situation()
        except FreezekitError as error:
            found = f"{type(error).__name__}: {error}"
        (folder / f"{name}-{rank()}.json").write_text(json.dumps(found))
        distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
