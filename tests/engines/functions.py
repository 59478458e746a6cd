"""Functions of tasks: what trainings do, good and bad, in less time."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any


def add(argument: Any, report: Any) -> Any:
    return sum(argument)


def reports(argument: Any, report: Any) -> Any:
    print("functions may print")
    for number in range(argument):
        report({"epoch": number})
    return "done"


def threads(argument: Any, report: Any) -> Any:
    import torch

    return torch.get_num_threads()


def facts(argument: Any, report: Any) -> Any:
    return {
        "pid": os.getpid(),
        "folder": str(Path.cwd()),
        "devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "blocked": os.environ.get("FREEZEKIT_BLOCK"),
        "allocator": os.environ.get("MALLOC_TOP_PAD_"),
    }


def fails(argument: Any, report: Any) -> Any:
    if argument == "raise":
        raise ValueError("no such thing")
    if argument == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if argument == "exit":
        print("last words", file=sys.stderr)
        os._exit(3)
    if argument == "leave":
        sys.exit(1)
    if argument == "memory":
        raise MemoryError("can't allocate memory")
    if argument == "no data":
        return object()
    if argument == "no message":
        report(object())
    return None


def waits(argument: Any, report: Any) -> Any:
    report(os.getpid())
    time.sleep(1000)


def meets(argument: Any, report: Any) -> Any:
    """Wait until as many tasks have begun as shall; return how many ran as this one began."""
    folder, shall = Path(argument[0]), argument[1]
    mine = folder / f"{os.getpid()}.runs"
    mine.touch()
    running = len([*folder.glob("*.runs")])
    (folder / f"{os.getpid()}.began").touch()
    end = time.monotonic() + 60
    while len([*folder.glob("*.began")]) < shall and time.monotonic() < end:
        time.sleep(0.01)
    mine.unlink()
    return running


def dies_once(argument: Any, report: Any) -> Any:
    """Count to 3 in a file, and die midway the first time; go on from the file."""
    file = Path(argument)
    steps = [*map(int, file.read_text().split())] if file.exists() else []
    for step in range(len(steps), 3):
        with file.open("a") as stored:
            stored.write(f"{step}\n")
        if step == 1:
            os.kill(os.getpid(), signal.SIGKILL)
    return [*map(int, file.read_text().split())]


def tells(argument: Any, report: Any) -> Any:
    Path(argument).write_text(str(os.getpid()))
    time.sleep(1000)
