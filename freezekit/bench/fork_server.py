"""The process that imports everything once and forks the measuring processes; runs no model.

`freezekit.bench.lifeline` starts it for `freezekit.bench.forked`, which asks it over a socket. Each
question gets one answer.

- {"import": MODULES}: whether processes can be forked with these modules imported.
- {"fork": MODULE} comes with three descriptors: stdin, stdout and stderr of a new process. That
  starts as if Python had been started on `freezekit.bench.lifeline MODULE`.
- {"reap": PID} asks for the exit code of a process that has ended. Until then, the system gives its
  number to no other process.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from freezekit.bench.lifeline import start
from freezekit.bench.resident import Pages, bring_in, pages_of_files

LONGEST = 4096
"""Bytes of a question, and of an answer."""


def main(job: dict[str, Any]) -> None:  # Any: JSON
    """Answer until the parent closes the socket; in a forked process, do that process's job."""
    control = socket.socket(fileno=job["control"])
    pages: list[Pages] = []
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, LONGEST, 3)
        if not message:
            return
        asked = json.loads(message)
        if "import" in asked:
            for module in asked["import"]:
                importlib.import_module(module)
            gc.collect()
            gc.freeze()  # each measuring process would traverse the imported objects many times
            pages = pages_of_files()
            answer: dict[str, int] = {"ready": _can_fork()}
        elif "reap" in asked:
            _, status = os.waitpid(asked["reap"], 0)
            answer = {"code": os.waitstatus_to_exitcode(status)}
        else:
            pid = os.fork()
            if pid == 0:
                control.close()
                _take_standard_streams(descriptors)
                bring_in(pages)
                start(asked["fork"])
                _leave()
            for descriptor in descriptors:
                os.close(descriptor)
            answer = {"pid": pid}
        control.send(json.dumps(answer).encode())


def _leave() -> None:
    """End as every Python process does, but leave the freeing of all memory to the system."""
    threading._shutdown()  # type: ignore[attr-defined]  # as `multiprocessing` does
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _can_fork() -> bool:
    """Tell whether this process has one thread alone, as far as forks are concerned.

    A lock that another thread holds at a fork stays locked in the child for ever. Libraries that
    prepare for forks end their threads before each, as OpenBLAS does. So the threads are counted
    after one.
    """
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    threads = Path("/proc/self/task")
    return threads.is_dir() and len(list(threads.iterdir())) == 1


def _take_standard_streams(descriptors: list[int]) -> None:
    os.setsid()  # as Popen does with start_new_session
    for standard, descriptor in enumerate(descriptors):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    sys.stdin = os.fdopen(0, closefd=False)  # the old one may hold what came before
