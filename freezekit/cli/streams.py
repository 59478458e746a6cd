"""What becomes of output that cannot be written."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Any


class _Forgiving(io.FileIO):
    """A file that takes all that is written to it, though it may be lost."""

    def write(self, data: Any, /) -> int:  # Any: a buffer
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def forgive_stderr() -> None:
    """Lose messages that stderr does not take (a full disk, a closed pipe), and go on.

    A stderr that something else has put in place of the process's own is left alone.
    """
    own = sys.__stderr__
    if own is None or sys.stderr is not own:
        return
    file = io.BufferedWriter(_Forgiving(own.fileno(), "w", closefd=False))
    sys.stderr = io.TextIOWrapper(
        file, encoding=own.encoding, errors=own.errors, line_buffering=True
    )


def drop_stdout() -> None:
    """Let what is not written yet go nowhere, so that it does not fail again at exit."""
    with suppress(AttributeError, OSError, ValueError):  # not every stdout has a number
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
