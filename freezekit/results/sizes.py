"""Sizes of memory, as people write them."""

from __future__ import annotations

import re
from math import inf

from freezekit.errors import SizeError

UNITS = {
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
}
"""Bytes in each unit."""


def read_bytes(text: str) -> int:
    """Return a size in bytes.

    Args:
        text: A number with one of `UNITS`, or of bytes without.

    Raises:
        SizeError: It is none; the message says how sizes are written.

    Example:
        >>> read_bytes("8GiB"), read_bytes("1.5 MB"), read_bytes("4096")
        (8589934592, 1500000, 4096)
        >>> read_bytes("8gigs")
        Traceback (most recent call last):
        ...
        freezekit.errors.SizeError: '8gigs' is no size; expected such as 8GiB, 500MB or 1024 ...
    """
    found = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([A-Za-z]*)\s*", text)
    by_name = {name.lower(): count for name, count in UNITS.items()} | {"": 1, "b": 1}
    if not found or found[2].lower() not in by_name:
        raise SizeError(
            f"{text!r} is no size; expected such as 8GiB, 500MB or 1024 (bytes); units: "
            f"{', '.join(UNITS)}"
        )
    size = float(found[1]) * by_name[found[2].lower()]
    if not 1 <= size < inf:
        raise SizeError(f"{text!r} is no size of a memory; expected such as 8GiB or 500MB")
    return round(size)


def size_text(count: float) -> str:
    """Return a number of bytes as text, with a unit that suits it.

    Example:
        >>> size_text(640 * 1024), size_text(3 * 2**30 / 2), size_text(12)
        ('640 KiB', '1.5 GiB', '12 B')
    """
    units = {1: "B", 2**10: "KiB", 2**20: "MiB", 2**30: "GiB", 2**40: "TiB"}
    unit = max((size for size in units if size <= count), default=1)
    return f"{count / unit:.3g} {units[unit]}"
