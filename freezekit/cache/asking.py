"""What a user asks of a cache, checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from freezekit.cache.records import Request
from freezekit.errors import CacheError
from freezekit.results.sizes import read_bytes


def request_of(
    *,
    folder: str | Path | None,
    limit: str | None,
    **given: Any,  # Any: fields of Request
) -> Request:
    """Return a request.

    Args:
        folder: Where rows are written.
        limit: Such as "8GiB".
        given: The other fields of `Request`, as `Frozen.cache` takes them.

    Raises:
        CacheError: An argument is of another kind than `Frozen.cache` documents.
        SizeError: The limit is no size.
    """
    for name, least in (("batch_size", 1), ("views", 1), ("workers", 0), ("seed", 0)):
        value = given[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise CacheError(f"{name} is {value!r}, expected a whole number of at least {least}")
    texts = ("limit", limit), ("data_version", given["data_version"])
    for name, value in texts:
        if value is not None and not isinstance(value, str):
            raise CacheError(f"{name} is {value!r}, expected a text")
    if folder is not None and (not isinstance(folder, (str, Path)) or not str(folder)):
        raise CacheError(f"folder is {folder!r}, expected a path")
    if given["call"] is not None and not callable(given["call"]):
        raise CacheError(f"call is {given['call']!r}, expected a function of model and batch")
    if given["on_thaw"] not in ("refill", "drop"):
        raise CacheError(f"on_thaw is {given['on_thaw']!r}, expected 'refill' or 'drop'")
    return Request(
        # Absolute, as a later working directory may be another one.
        folder=None if folder is None else Path(folder).expanduser().absolute(),
        limit_bytes=None if limit is None else read_bytes(limit),
        **given,
    )
