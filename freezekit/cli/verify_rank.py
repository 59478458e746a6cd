"""One rank of `freezekit verify --nproc`; `freezekit.bench.lifeline` starts it.

Its job is what `freezekit.cli.verify_schedule` writes. Events are {"event": "progress", "now"} of
the first rank, and one at the end: {"event": "found", "found", "warned"} or {"event": "failed",
"kind", "error"}, with the class of the error.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import distributed

from freezekit.bench.worker import Event, failure, serve
from freezekit.cli.verify_schedule import Asked, verify_here
from freezekit.errors import FreezeError, FreezekitError
from freezekit.plugins.registering import load_registry
from freezekit.schedules import rendezvous

if TYPE_CHECKING:
    from collections.abc import Iterator

WAIT_SECONDS = 300.0
"""How long a rank waits for another one in a step. They make the same steps at the same time."""

LATER_SECONDS = 1.0
"""A rank that failed says so a little later. If another one died, its end is told first: that it
could not be reached is no news then."""


def main(job: Event) -> None:
    """Be a rank of a job."""
    serve({"verify": _verify}, job)


def _verify(_: object, job: Event) -> Iterator[Event]:
    """Verify in a thread, so that events are written as they come."""
    events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()

    def work() -> None:
        try:
            events.put(_found(job, events))
        except BaseException as error:  # noqa: BLE001  # the parent reports all to the user, exits too
            time.sleep(LATER_SECONDS)
            kind = type(error).__name__ if isinstance(error, FreezekitError) else "FreezeError"
            events.put({**failure(error), "event": "failed", "kind": kind})
            threading.Event().wait()  # for the parent: others would report that this rank is gone
        events.put(None)

    threading.Thread(target=work, daemon=True).start()
    while (event := events.get()) is not None:
        yield event


def _found(job: Event, events: queue.SimpleQueue[Event | None]) -> Event:
    if not (distributed.is_available() and distributed.is_gloo_available()):
        raise FreezeError("--nproc needs gloo, which this build of torch does not have")
    rendezvous.TIMEOUT_SECONDS = WAIT_SECONDS  # one rank may load weights that another has
    os.environ.setdefault("GLOO_SOCKET_IFNAME", _loopback())
    distributed.init_process_group(
        "gloo",
        init_method=Path(job["store"]).as_uri(),
        rank=job["rank"],
        world_size=job["ranks"],
        timeout=timedelta(seconds=WAIT_SECONDS),
    )
    options: dict[str, Any] = job["asked"]  # Any: JSON
    asked = Asked(**options | {"block": tuple(options["block"])})

    def tell(now: str) -> None:
        if job["rank"] == 0:
            events.put({"event": "progress", "now": now})

    found, warned = verify_here(asked, load_registry(asked.block), tell, job["rank"])
    distributed.barrier()  # a rank that ends closes what others may still read
    distributed.destroy_process_group()
    return {"event": "found", "found": found.to_json(), "warned": warned}


def _loopback() -> str:
    """Return the interface of this machine alone: gloo finds none where there is no network."""
    names = [name for _, name in socket.if_nameindex()]
    return next((name for name in names if name.startswith("lo")), names[0])
