"""The start of a measuring process: `python -P -m freezekit.bench.lifeline MODULE`; no torch.

The job is one line on stdin. Before anything else is imported, the process is bound to its parent:
it ends when the parent ends, in whatever way, and whatever its own code does at that moment. Then
MODULE is imported, and its `main(job)` does the job.
"""

from __future__ import annotations

import ctypes
import fcntl
import importlib
import json
import os
import select
import signal
import sys
import threading

_PR_SET_PDEATHSIG = 1  # of prctl(2)


def bind_to_parent(lifeline: int) -> None:
    """Let the system end this process, and those that it starts, once the parent has ended.

    On Linux the kernel itself sends SIGKILL. No code of this process has to run for that: it may be
    stopped, or hold the interpreter's lock for minutes. The signal comes twice over. One is for the
    end of the parent's thread that started this process. The other is for the end of the pipe, and
    reaches the whole process group. Other systems have neither, and a thread waits for the end of
    the pipe.

    Args:
        lifeline: The end for reading of a pipe. Only the parent holds the other end, and it writes
            no more.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if hasattr(fcntl, "F_SETSIG"):
        is_leader = os.getpgrp() == os.getpid()
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp() if is_leader else os.getpid())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC)
        poll = select.poll()
        poll.register(lifeline, 0)
        if poll.poll(0):  # the parent had ended before
            os._exit(1)
    else:
        threading.Thread(target=_end_with_the_pipe, args=(lifeline,), daemon=True).start()


def _end_with_the_pipe(lifeline: int) -> None:
    while os.read(lifeline, 1024):
        pass
    os._exit(1)


def start(module: str) -> None:
    """Read the job on stdin, bind this process to its parent, and let a module do the job.

    Args:
        module: Its `main` takes the job.
    """
    line = sys.stdin.readline()
    lifeline = os.dup(0)
    bind_to_parent(lifeline)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)  # a model that asks for input gets none, and does not wait for ever
    os.close(nothing)
    if line.endswith("\n"):  # without: the parent had ended before
        importlib.import_module(module).main(json.loads(line))


if __name__ == "__main__":
    start(sys.argv[1])
