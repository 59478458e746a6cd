"""One run at a time writes a file."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from freezekit.errors import OutputError
from freezekit.results.files import reason

try:
    import fcntl
except ImportError:  # on Windows, where nothing is measured
    fcntl = None  # type: ignore[assignment]  # asked for below

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_KNOWS_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
_EACH_TIME = os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


@contextmanager
def locked(paths: Sequence[str]) -> Iterator[None]:
    """Hold files against other runs, of whichever user; nothing is left behind beside them.

    The lock of "r.json" is the file ".r.json.lock" in the same folder: every run finds it there,
    whatever its environment. The system frees it when its run ends, in whatever way. A file that a
    killed run has left behind is no lock, and the next run removes it.

    Raises:
        OutputError: Another run is writing one of them, or the lock cannot be had.

    Example:
        >>> with locked(["results.json"]), locked(["./results.json"]):
        ...     pass
        Traceback (most recent call last):
        ...
        freezekit.errors.OutputError: another run is writing './results.json'; ...
    """
    with ExitStack() as held:
        for target in dict.fromkeys(os.path.realpath(path) for path in paths):
            given = next(p for p in paths if os.path.realpath(p) == target)
            held.enter_context(_locked(Path(target), given))
        yield


@contextmanager
def _locked(target: Path, given: str) -> Iterator[None]:
    if fcntl is None:
        yield
        return
    lock = target.with_name(f".{target.name}.lock")
    try:
        try:
            descriptor = _acquired(lock)
        except OSError as error:
            if error.errno not in _KNOWS_NO_LOCKS:
                raise
            lock = _in_the_temporary_folder(target)  # as some network file systems have none
            descriptor = _acquired(lock)
    except OSError as error:
        to_do = "name a place where files can be made"
        if os.path.lexists(lock):
            to_do = "if no run is writing, remove that file, or name another output file"
        raise OutputError(
            f"cannot lock {given!r} against other runs: {str(lock)!r}: {reason(error)}; {to_do}"
        ) from None
    if descriptor is None:
        raise OutputError(
            f"another run is writing {given!r}; wait for its end or name another file"
        )
    try:
        yield
    finally:
        with suppress(OSError):  # it may be another user's, left behind
            lock.unlink()  # before it is freed: whoever has opened it sees that it is gone
        os.close(descriptor)


def _acquired(lock: Path) -> int | None:
    """Return the descriptor that holds the lock, None where another one does.

    Raises:
        OSError: The file cannot be opened or locked.
    """
    while True:
        descriptor = _opened(lock)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is(lock, descriptor):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the run that held it removed it after it was opened here


def _opened(lock: Path) -> int:
    try:
        return os.open(lock, os.O_RDWR | _EACH_TIME, 0o666)
    except PermissionError:  # another user's: whoever may read it can lock it
        return os.open(lock, os.O_RDONLY | (_EACH_TIME & ~os.O_CREAT))


def _is(lock: Path, descriptor: int) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.stat(lock), os.fstat(descriptor))  # noqa: PTH116  # one of two
    return False


def _in_the_temporary_folder(target: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(target)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"freezekit-{digest}.lock"
