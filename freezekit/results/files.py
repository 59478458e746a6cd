"""Files that are written whole or not at all, and the question whether one could be written."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
from contextlib import suppress
from pathlib import Path

from freezekit.errors import OutputError

UNCHANGED = "; the file that was there is unchanged"
"""How the message of a write that failed ends, where there is such a file."""


def read_text(path: str | Path) -> str:
    """Return the text of a file in UTF-8.

    Raises:
        OutputError: It cannot be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")  # some editors put a mark first
    except UnicodeDecodeError:
        raise OutputError(f"cannot read {str(path)!r}: it is not text in UTF-8") from None
    except OSError as error:
        raise OutputError(f"cannot read {str(path)!r}: {reason(error)}") from None


def write_text(path: str | Path, text: str) -> None:
    """Write a whole file or leave what was there: at any moment a reader finds one or the other.

    The text goes, as UTF-8, to a file beside it which then takes its name. What UTF-8 cannot hold
    is written as an escape. The permissions of a file that exists are kept.

    Raises:
        OutputError: The file cannot be written; what was there is still there.
    """
    write_bytes(path, text.encode("utf-8", errors="backslashreplace"))


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a whole file or leave what was there, as `write_text` does.

    Raises:
        OutputError: The file cannot be written; what was there is still there.
    """
    target = Path(os.path.realpath(path))  # a link stays a link, and the file behind it is written
    draft = _draft_beside(target)
    try:
        with draft.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, draft)
        draft.replace(target)
    except OSError as error:
        kept = UNCHANGED if target.is_file() else ""
        raise OutputError(f"cannot write {str(path)!r}: {reason(error)}{kept}") from None
    finally:
        with suppress(OSError):  # it has its final name, or it could not be made
            draft.unlink(missing_ok=True)


def remove_drafts(folder: Path) -> None:
    """Remove what writers of files in a folder left behind when they were killed.

    Only whoever holds the folder against other runs may do so: a draft may be one in the making.
    """
    for path in folder.glob(".*.json.*.tmp"):
        if re.fullmatch(r"\..+\.json\.[0-9a-f]{8}\.tmp", path.name) and not path.is_symlink():
            path.unlink(missing_ok=True)


def check_target(path: str | Path) -> None:
    """Raise unless a file could be written there; nothing that exists is touched.

    Raises:
        OutputError: The folder is missing or takes no new file, or the path is a folder, a device
            or a read-only file; the message says what to do.

    Example:
        >>> check_target("no-such-folder/results.json")
        Traceback (most recent call last):
        ...
        freezekit.errors.OutputError: cannot write 'no-such-folder/results.json': there is no ...
    """
    try:
        _check_target(str(path), Path(os.path.realpath(path)))
    except OSError as error:  # such as a name that is too long even to ask about
        raise OutputError(f"cannot write {str(path)!r}: {reason(error)}") from None


def _check_target(given: str, target: Path) -> None:
    if target.is_dir():
        raise OutputError(
            f"cannot write {given!r}: it is a folder; name a file in it, such as "
            f"{str(Path(given) / 'results.json')!r}"
        )
    if not target.parent.is_dir():
        raise OutputError(
            f"cannot write {given!r}: there is no folder {str(target.parent)!r}; "
            f"make it (mkdir -p) or choose another one"
        )
    if target.exists():
        if not target.is_file():
            raise OutputError(f"cannot write {given!r}: it is not a regular file; name another one")
        # The bits are asked too: root may write anything, yet whoever locked a file meant it.
        locked = not target.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
        if locked or not os.access(target, os.W_OK):
            raise OutputError(
                f"cannot write {given!r}: the file is read-only; unlock it (chmod u+w) "
                "or name another one"
            )
    draft = _draft_beside(target)
    try:  # only an attempt knows of read-only disks, quotas and names too long
        draft.touch(exist_ok=False)
        draft.unlink()
    except OSError as error:
        raise OutputError(
            f"cannot write {given!r}: the folder {str(target.parent)!r} takes no new file "
            f"({reason(error)}); choose another folder"
        ) from None


def _draft_beside(target: Path) -> Path:
    """Return a name in the same folder, so that renaming is atomic; another one for each writer."""
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")


def reason(error: OSError) -> str:
    """Return why the system refused, as the end of a sentence."""
    return (error.strerror or str(error)).lower()
