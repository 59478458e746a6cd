"""The output of a child process, up to the end of the process itself; no torch."""

from __future__ import annotations

import os
import selectors
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from freezekit.bench.forked import Forked

LOOK_SECONDS = 0.2  # how often it is asked whether a process has ended, where the system cannot say


def lines_until_end(process: subprocess.Popen[bytes] | Forked) -> Iterator[str]:
    r"""Yield the lines that a process writes to its stdout, until the process has ended.

    The end of the pipe does not count: a child of the process may hold it longer, and the process
    may close it sooner. A last line without its end is left out: the process died while it wrote.

    Args:
        process: Its stdout is a pipe that nothing else reads.

    Example:
        >>> import subprocess
        >>> with subprocess.Popen(["printf", "one\ntw"], stdout=subprocess.PIPE) as child:
        ...     list(lines_until_end(child))
        ['one']
    """
    assert process.stdout is not None
    pipe = process.stdout.fileno()
    os.set_blocking(pipe, False)
    with _descriptor_of(process) as end, selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        if end is not None:
            selector.register(end, selectors.EVENT_READ)
        rest = b""
        has_ended = False
        while not has_ended:
            ready = {key.fd for key, _ in selector.select(LOOK_SECONDS if end is None else None)}
            # Asked before the pipe is read: what the process wrote before its end is all there.
            has_ended = end in ready or (end is None and process.poll() is not None)
            if pipe in ready or has_ended:
                found, is_open = _available(pipe)
                *lines, rest = (rest + found).split(b"\n")
                for line in lines:
                    yield line.decode("utf-8", errors="replace")
                if not is_open and pipe in selector.get_map():
                    selector.unregister(pipe)


def _available(pipe: int) -> tuple[bytes, bool]:
    """Return what the pipe holds now, and whether more may come."""
    try:
        found = os.read(pipe, 1 << 20)  # more than a pipe holds
    except BlockingIOError:
        return b"", True
    return found, bool(found)


@contextmanager
def _descriptor_of(process: subprocess.Popen[bytes] | Forked) -> Iterator[int | None]:
    """Give a descriptor that becomes readable when the process ends; None where there is none."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # not on Linux, or on an old one
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)
