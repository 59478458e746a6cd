"""The process of a task on this machine; `freezekit.bench.lifeline` starts it; no torch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from freezekit.bench.event_output import take_stdout
from freezekit.engines.calling import call

if TYPE_CHECKING:
    from freezekit.engines.records import JSON


def main(job: JSON) -> None:
    """Do the job that `local.py` makes of a task.

    Its events are messages, then one outcome.
    """
    send = take_stdout()
    if job["devices"] is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(job["devices"])
    outcome = call(job["call"], lambda message: send({"event": "message", "answer": message}))
    try:
        send({"event": "outcome", **outcome})
    except TypeError as error:
        said = f"what {job['call']['function']!r} returned is no JSON data: {error}"
        send({"event": "outcome", "status": "error", "answer": None, "error": said})
    send({"event": "end"})
