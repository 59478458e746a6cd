"""What several benchmarks write alike: the environment, and a file whole or not at all."""

from __future__ import annotations

import json
import os
import platform
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def environment() -> dict[str, Any]:  # Any: facts
    """Return the facts that figures of a single-threaded run depend on."""
    packages = ("freezekit", "torch", "torchvision", "timm")
    return {
        "when": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "threads": 1,
        **{name: version(name) for name in packages},
    }


def write_whole(path: Path, data: dict[str, Any]) -> None:  # Any: JSON
    """Write a result as JSON, or leave what was there."""
    half = path.with_suffix(".half")
    half.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    half.replace(path)
