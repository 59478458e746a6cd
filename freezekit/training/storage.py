"""Where checkpoints are kept: a folder of this machine, or object storage that all hosts reach.

A place is a path, or a URL that fsspec reads, such as "s3://bucket/trials". A write is whole or
does not happen: a file takes its name when it is complete, and object storage shows an object when
all of it has arrived.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freezekit.errors import OutputError, TrainingError
from freezekit.results.files import reason, write_bytes

if TYPE_CHECKING:
    from collections.abc import Callable


def inside(place: str, *names: str) -> str:
    """Return a place in another one.

    Example:
        >>> inside("s3://bucket/trials/", "a1"), inside("trials", "a1", "checkpoint.pt")
        ('s3://bucket/trials/a1', 'trials/a1/checkpoint.pt')
    """
    if _is_url(place):
        return "/".join((place.rstrip("/"), *names))
    return str(Path(place, *names))


def read(place: str, name: str) -> bytes | None:
    """Return what was written under a name; None where nothing was.

    Raises:
        TrainingError: It cannot be read.

    Example:
        >>> write("memory://trials", "a", b"whole")
        >>> read("memory://trials", "a"), read("memory://trials", "b")
        (b'whole', None)
    """
    if _is_url(place):
        found: bytes | None = _asked(place, lambda files, root: _found(files, f"{root}/{name}"))
        return found
    try:
        return Path(place, name).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TrainingError(f"cannot read {inside(place, name)!r}: {reason(error)}") from None


def write(place: str, name: str, data: bytes) -> None:
    """Write data under a name; on an error what was there before is still there.

    Raises:
        TrainingError: It cannot be written.
    """
    if _is_url(place):
        _asked(place, lambda files, root: _put(files, root, name, data))
        return
    was_there = Path(place).exists()
    try:
        Path(place).mkdir(parents=True, exist_ok=True)
        write_bytes(Path(place, name), data)
    except (OSError, OutputError) as error:
        if not was_there:
            _remove_empty(place)
        if isinstance(error, OutputError):
            raise TrainingError(str(error)) from None
        raise TrainingError(f"cannot make the folder {place!r}: {reason(error)}") from None


def check_place(place: str) -> None:
    """Raise unless a place can be written to: a small file is written, and removed.

    Raises:
        TrainingError: It cannot; the message says what to do.

    Example:
        >>> check_place("no-such-storage://trials")
        Traceback (most recent call last):
        ...
        freezekit.errors.TrainingError: no checkpoint can be kept: cannot use the storage ...
    """
    name = f".{secrets.token_hex(4)}.probe"  # another one for each process
    was_there = not is_local(place) or Path(place).exists()
    try:
        write(place, name, b"freezekit")
        if not is_local(place):
            _asked(place, lambda files, root: files.rm_file(f"{root}/{name}"))
            return
        Path(place, name).unlink(missing_ok=True)
    except TrainingError as error:
        raise TrainingError(
            f"no checkpoint can be kept: {error}; {remedy(error, 'give another folder')}"
        ) from error
    except OSError as error:
        raise TrainingError(
            f"no checkpoint can be kept: cannot remove a file from {place!r}: {reason(error)}; "
            "give another folder"
        ) from None
    if not was_there:
        _remove_empty(place)


def remedy(error: TrainingError, otherwise: str) -> str:
    """Return what to do after a write that failed: "make room" only where there was none.

    Example:
        >>> full = TrainingError("cannot write 'checkpoint.pt': no space left on device")
        >>> remedy(full, "give another folder")
        'make room'
    """
    said = str(error).lower()
    is_full = any(os.strerror(code).lower() in said for code in (errno.ENOSPC, errno.EDQUOT))
    return "make room" if is_full else otherwise


def names(place: str) -> tuple[str, ...]:
    """Return the names of what a place holds, sorted; () where there is no such place.

    Raises:
        TrainingError: It cannot be listed.
    """
    if _is_url(place):
        listed: tuple[str, ...] = _asked(place, _listed)
        return listed
    try:
        found = [path.name for path in Path(place).iterdir()]
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise TrainingError(f"cannot list the folder {place!r}: {reason(error)}") from None
    return tuple(sorted(name for name in found if not name.startswith(".")))


def remove(place: str) -> None:
    """Remove a place with all that it holds; it may have been removed before.

    Raises:
        TrainingError: It cannot be removed.

    Example:
        >>> write("memory://trials/a1", "a", b"whole")
        >>> remove("memory://trials/a1")
        >>> names("memory://trials/a1")
        ()
    """
    if _is_url(place):
        if names(place):
            _asked(place, lambda files, root: files.rm(root, recursive=True))
        return
    try:
        shutil.rmtree(place)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise TrainingError(f"cannot remove the folder {place!r}: {reason(error)}") from None


def is_local(place: str) -> bool:
    """Tell whether a place is a folder of this machine, and no URL.

    Example:
        >>> is_local("trials"), is_local("s3://bucket/trials")
        (True, False)
    """
    return not _is_url(place)


def _remove_empty(place: str) -> None:
    with suppress(OSError):  # another process has put a file there
        Path(place).rmdir()


def _is_url(place: str) -> bool:
    return "://" in place


def _asked(place: str, ask: Callable[[Any, str], Any]) -> Any:  # Any: fsspec has no types
    """Return what a file system of fsspec answers; each of its errors is one line.

    Raises:
        TrainingError: It cannot be reached, or refuses.
    """
    from fsspec.core import url_to_fs

    try:
        files, root = url_to_fs(place)
        return ask(files, root.rstrip("/"))
    except ImportError as error:  # the protocol needs a package; the message names it
        raise TrainingError(f"cannot reach {place!r}: {error}") from None
    except Exception as error:  # each protocol raises errors of its own libraries
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise TrainingError(f"cannot use the storage {place!r}: {said:.200}") from error


def _found(files: Any, path: str) -> bytes | None:  # Any: as above
    try:
        data: bytes = files.cat_file(path)
    except FileNotFoundError:
        return None
    return data


def _put(files: Any, root: str, name: str, data: bytes) -> None:  # Any: as above
    if files.protocol in ("file", "local") or "file" in files.protocol:  # not whole by itself
        write(root, name, data)
        return
    files.makedirs(root, exist_ok=True)
    files.pipe_file(f"{root}/{name}", data)


def _listed(files: Any, root: str) -> tuple[str, ...]:  # Any: as above
    try:
        found = files.ls(root, detail=False)
    except FileNotFoundError:
        return ()
    found = [path.rstrip("/").rpartition("/")[2] for path in found]
    return tuple(sorted(name for name in found if not name.startswith(".")))
