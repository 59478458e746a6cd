"""Facts of the machine and its load, as the parent process sees them; no torch."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from freezekit.bench.processes import PINNED_ALLOCATOR

if TYPE_CHECKING:
    from collections.abc import Mapping

FACTS = (
    "device",
    "cpu",
    "cores",
    "threads",
    "platform",
    "python",
    "torch",
    "torchvision",
    "timm",
    "cuda",
    "lean_core",
    "allocator",
)
"""The facts of a machine and its software on which figures depend."""


def environment() -> dict[str, Any]:  # Any: facts of many types
    """Return the facts that a result records; a worker adds versions and the device."""
    return {
        "cpu": _cpu_name(),
        "cores": cores(),
        "affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "load_before": load_average(),
        "allocator": {name: os.environ.get(name, v) for name, v in PINNED_ALLOCATOR.items()},
        "git": _git_commit(),
        "command": command(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def command() -> str:
    """Return the command by which this process was started."""
    return shlex.join(["freezekit", *sys.argv[1:]])


def differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the facts in which two environments differ, each with both values.

    Example:
        >>> differing({"torch": "2.14.0", "threads": 2}, {"torch": "2.15.0", "threads": 2})
        ('torch (2.14.0 -> 2.15.0)',)
    """
    values = [(name, old.get(name), new.get(name)) for name in FACTS]
    return tuple(f"{name} ({a} -> {b})" for name, a, b in values if a != b)


def cores() -> int:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load_average() -> float | None:
    """Return the load of the last minute, None where the system does not report it."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123  # no real file
            names = (line.partition(":")[2].strip() for line in lines if "model name" in line)
            return next(names, platform.machine())
    except OSError:
        return platform.processor() or platform.machine()


def available_bytes() -> int:
    """Return the free memory, 0 where the system does not report it."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 0


def _git_commit() -> str | None:
    """Return the commit of the working directory, None where it is not under git."""
    command = ["git", "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
