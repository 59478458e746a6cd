"""Is there room for a cache, and do all ranks see it?"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import psutil

from freezekit.errors import CacheError
from freezekit.results.sizes import size_text

if TYPE_CHECKING:
    from pathlib import Path

    from freezekit.cache.records import Filled, Request
    from freezekit.cache.rows import Rows

MEMORY_SHARE = 0.9
"""Of the memory that is available, the ranks of a machine may take so much together."""


def check_size(filled: Filled, asked: Request) -> None:
    """Refuse what is larger than a limit, or than the memory that is free.

    Raises:
        CacheError: It is.
    """
    total = filled.total_bytes
    size = f"the cache would take {size_text(total)}, {size_text(filled.bytes_per_sample)} a sample"
    advice = "freeze more stages, whose features may be smaller, or take fewer views"
    if asked.limit_bytes is not None and total > asked.limit_bytes:
        raise CacheError(
            f"{size}, and the limit is {size_text(asked.limit_bytes)}; {advice}, or raise the limit"
        )
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    free = int(psutil.virtual_memory().available * MEMORY_SHARE / processes)
    if asked.folder is None and total > free:
        raise CacheError(
            f"{size}, and {size_text(free)} of memory are available; {advice}, or give a folder"
        )


def check_space(folder: Path, wanted: int) -> None:
    """Refuse what the disk of a folder has no space for.

    Raises:
        CacheError: It has too little.
    """
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise CacheError(
            f"the cache needs {size_text(wanted)} more in {str(folder)!r}, where "
            f"{size_text(free)} are free; give another folder"
        )


def check_seen(rows: Rows, folder: Path | None) -> None:
    """Refuse a folder in which this rank does not find what the others wrote.

    Raises:
        CacheError: Files are missing.
    """
    if rows.is_shared and rows.missing():
        raise CacheError(
            f"files that other ranks wrote in {str(folder)!r} are not seen on this one; give a "
            "folder on a file system of all ranks, or keep the cache in memory"
        )
