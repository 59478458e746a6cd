"""Events from a worker to the process that started it: JSON, one line each, on stdout; no torch."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def take_stdout() -> Callable[[dict[str, Any]], None]:  # Any: JSON
    """Return a function that sends an event; what else is printed goes to stderr from now on.

    An event that is no JSON data raises `TypeError`, and nothing of it is sent.
    """
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def send(event: dict[str, Any]) -> None:  # Any: JSON
        events.write(json.dumps(event) + "\n")
        events.flush()

    return send
