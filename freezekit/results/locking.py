"""One run at a time writes a file."""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from freezekit.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@contextmanager
def locked(paths: Sequence[str]) -> Iterator[None]:
    """Hold files against other runs of this machine; nothing is left behind beside them.

    Raises:
        OutputError: Another run is writing one of them.

    Example:
        >>> with locked(["results.json"]), locked(["./results.json"]):
        ...     pass
        Traceback (most recent call last):
        ...
        freezekit.errors.OutputError: another run is writing './results.json'; ...
    """
    with ExitStack() as held:
        for path in dict.fromkeys(os.path.realpath(path) for path in paths):
            given = next(p for p in paths if os.path.realpath(p) == path)
            lock = FileLock(_lock_of(path), timeout=0)
            try:
                held.enter_context(lock)
            except Timeout:
                raise OutputError(
                    f"another run is writing {given!r}; wait for its end or name another file"
                ) from None
        yield


def _lock_of(path: str) -> Path:
    digest = hashlib.sha256(path.encode("utf-8", errors="surrogateescape")).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"freezekit-{digest}.lock"
