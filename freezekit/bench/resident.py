"""Pages of files that are in the memory of a process, and how a forked process gets them; no torch.

A forked process has the memory of its parent, but for the pages of files, such as the code of
libraries: the system maps these anew when they are used. So its resident size is some 200 MiB less
than that of a process that did the same imports itself. With these pages it is the same again.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from array import array
from pathlib import Path
from typing import NamedTuple

_MADV_POPULATE_READ = 22  # of madvise(2)
_PRESENT = 1 << 63  # of an entry of /proc/PID/pagemap
_ENTRY_BYTES = 8


class Pages(NamedTuple):
    """Successive pages, by the address of the first."""

    address: int
    length_bytes: int


def pages_of_files() -> list[Pages]:
    """Return the pages of files that this process has in memory; none where it cannot be known.

    Example:
        >>> all(pages.length_bytes > 0 for pages in pages_of_files())
        True
    """
    found: list[Pages] = []
    try:
        mappings = Path("/proc/self/maps").read_text().splitlines()
        with Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
            for line in mappings:
                limits, mode, _, _, inode, *_ = line.split(maxsplit=5)
                if inode == "0" or not mode.startswith("r"):
                    continue
                first, end = (int(limit, 16) // mmap.PAGESIZE for limit in limits.split("-"))
                pagemap.seek(first * _ENTRY_BYTES)
                entries = array("Q", pagemap.read((end - first) * _ENTRY_BYTES))
                found += _runs(first, entries)
    except OSError:
        return []
    return found


def _runs(first: int, entries: array[int]) -> list[Pages]:
    runs: list[Pages] = []
    for number, entry in enumerate(entries, start=first):
        if not entry & _PRESENT:
            continue
        address = number * mmap.PAGESIZE
        if runs and sum(runs[-1]) == address:
            runs[-1] = Pages(runs[-1].address, runs[-1].length_bytes + mmap.PAGESIZE)
        else:
            runs.append(Pages(address, mmap.PAGESIZE))
    return runs


def bring_in(pages: list[Pages]) -> None:
    """Map pages of files that are mapped in this process and not yet in its memory."""
    if sys.platform != "linux":
        return
    madvise = ctypes.CDLL(None).madvise
    for found in pages:
        # An older kernel refuses it. Then the resident size is smaller, and nothing else differs.
        madvise(
            ctypes.c_void_p(found.address), ctypes.c_size_t(found.length_bytes), _MADV_POPULATE_READ
        )
