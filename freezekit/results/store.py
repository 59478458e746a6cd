"""The result file: written whole or not at all, read strictly.

One run is one JSON object; a file of several models holds a JSON array of such objects.
`result.schema.json` beside this module describes both.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import os
import secrets
import shutil
import stat
import textwrap
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from freezekit.errors import OutputError
from freezekit.results.codec import MismatchError, from_data, to_data
from freezekit.results.records import SCHEMA_VERSION, Result

if TYPE_CHECKING:
    from collections.abc import Sequence

EXTENSIONS = (".json", ".csv", ".md", ".html", ".github.json", ".bencher.json")
"""What a result can be written as; `freezekit.report.write` does it."""

LONGEST_NUMBER = 1000
"""Digits; Python itself refuses to read a few thousand."""

UNCHANGED = "; the file that was there is unchanged"
"""How the message of a write that failed ends, where there is such a file."""

REPORT_PACKAGES = ("altair", "jinja2", "vl_convert")
"""What an HTML report needs beside freezekit: the extra `freezekit[report]`."""


def to_json(results: Sequence[Result]) -> str:
    r"""Return one result as a JSON object, several as a JSON array of objects.

    Args:
        results: One for each model, in the order of measuring.

    Raises:
        OutputError: There is no result.

    Example:
        >>> from freezekit.results.records import Row, Workload
        >>> result = Result("0.1.0", Workload("timm:resnet18"), env={}, rows=(Row("full"),))
        >>> from_json(to_json([result, result])) == (result, result)
        True
    """
    if not results:
        raise OutputError("there is no result to write: nothing was measured")
    objects = [_object(to_data(result)) for result in results]
    if len(objects) == 1:
        return objects[0] + "\n"
    return "[\n" + ",\n".join(objects) + "\n]\n"


def from_json(text: str, source: str = "the text") -> tuple[Result, ...]:
    """Return the results that `to_json` wrote.

    Args:
        text: The content of a result file.
        source: How error messages call it, such as the file's name.

    Raises:
        OutputError: The text is cut off, is not JSON, comes from another tool, or was written by an
            older or newer freezekit whose files differ; the message says which, and what to do.

    Example:
        >>> from_json('{"schema_version": 1, "freezekit"', "old.json")
        Traceback (most recent call last):
        ...
        freezekit.errors.OutputError: 'old.json' is cut off at line 1, column 34: ...
    """
    data = _parse(text, source)
    runs = data if isinstance(data, list) else [data]
    if not runs:
        raise OutputError(f"{source!r} holds no result: its list is empty")
    labels = [f"run {i}: " if isinstance(data, list) else "" for i in range(1, len(runs) + 1)]
    return tuple(_read_run(run, source, label) for run, label in zip(runs, labels, strict=True))


def load(path: str | Path) -> tuple[Result, ...]:
    """Return the results of a file, one for each model.

    Raises:
        OutputError: The file cannot be read, or is no result file of this freezekit.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")  # some editors put a mark first
    except UnicodeDecodeError:
        _reject(str(path), "it is not text in UTF-8")
    except OSError as error:
        raise OutputError(f"cannot read {str(path)!r}: {_reason(error)}") from None
    return from_json(text, str(path))


def write_text(path: str | Path, text: str) -> None:
    """Write a whole file or leave what was there: at any moment a reader finds one or the other.

    The text goes, as UTF-8, to a file beside it which then takes its name. What UTF-8 cannot hold
    is written as an escape. The permissions of a file that exists are kept.

    Raises:
        OutputError: The file cannot be written; what was there is still there.
    """
    target = Path(os.path.realpath(path))  # a link stays a link, and the file behind it is written
    draft = _draft_beside(target)
    try:
        with draft.open("xb") as file:
            file.write(text.encode("utf-8", errors="backslashreplace"))
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, draft)
        draft.replace(target)
    except OSError as error:
        kept = UNCHANGED if target.is_file() else ""
        raise OutputError(f"cannot write {str(path)!r}: {_reason(error)}{kept}") from None
    finally:
        with suppress(OSError):  # it has its final name, or it could not be made
            draft.unlink(missing_ok=True)


def check_writable(path: str | Path, extensions: Sequence[str] = EXTENSIONS) -> None:
    """Raise unless a result could be written there; nothing that exists is touched.

    To be called before hours of measuring, not after.

    Raises:
        OutputError: The extension is unknown, what an HTML report needs is not there, the
            folder is missing or takes no new file, or the path is a folder, a device or a read-only
            file; the message says what to do.

    Example:
        >>> check_writable("results.xlsx")
        Traceback (most recent call last):
        ...
        freezekit.errors.OutputError: cannot write 'results.xlsx': ...
    """
    try:
        _check_target(str(path), Path(os.path.realpath(path)), extensions)
    except OSError as error:  # such as a name that is too long even to ask about
        raise OutputError(f"cannot write {str(path)!r}: {_reason(error)}") from None


def extension_of(path: str | Path, extensions: Sequence[str] = EXTENSIONS) -> str:
    """Return the path's extension in lower case, the longest of those given that fits.

    Raises:
        OutputError: It is none of them.

    Example:
        >>> extension_of("runs/resnet.JSON"), extension_of("resnet.bencher.json")
        ('.json', '.bencher.json')
    """
    name = Path(path).name.lower()
    fitting = [known for known in extensions if name.endswith(known) and name != known]
    if not fitting:
        extension = Path(path).suffix
        found = f"the extension {extension!r}" if extension else "a name without extension"
        raise OutputError(
            f"cannot write {str(path)!r}: {found} does not say what to write; "
            f"expected {', '.join(extensions[:-1])} or {extensions[-1]}"
        )
    return max(fitting, key=len)


def check_report_packages(given: str) -> None:
    """Raise where an HTML report lacks a package, or one that is there cannot be imported.

    Args:
        given: The path that was to be written.

    Raises:
        OutputError: The message says what to install or to mend.
    """
    missing = [name for name in REPORT_PACKAGES if not _is_installed(name)]
    if missing:
        raise OutputError(
            f"cannot write {given!r}: an HTML report needs {' and '.join(missing)}, not installed "
            "here: pip install 'freezekit[report]'"
        )
    for name in REPORT_PACKAGES:
        try:
            importlib.import_module(name)
        except Exception as error:  # a broken package may raise anything
            raise OutputError(
                f"cannot write {given!r}: an HTML report needs {name}, which is installed but "
                f"broken ({type(error).__name__}: {error}); install it anew, or write no .html"
            ) from error


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # an import hook refuses it
        return False


def _check_target(given: str, target: Path, extensions: Sequence[str]) -> None:
    if target.is_dir():
        raise OutputError(
            f"cannot write {given!r}: it is a folder; name a file in it, such as "
            f"{str(Path(given) / 'results.json')!r}"
        )
    if extension_of(given, extensions) == ".html":
        check_report_packages(given)
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
            f"({_reason(error)}); choose another folder"
        ) from None


def _object(data: dict[str, Any]) -> str:  # Any: JSON data
    """Return JSON that a person can read: indented, but the raw steps without."""
    parts = []
    for key, value in data.items():
        indent = None if key == "raw" else 2
        text = json.dumps(value, indent=indent, allow_nan=False)
        parts.append(f"{json.dumps(key)}: {text}")
    return "{\n" + textwrap.indent(",\n".join(parts), "  ") + "\n}"


def _parse(text: str, source: str) -> Any:  # Any: JSON data
    if not text.strip():
        raise OutputError(f"{source!r} is empty: nothing was written to it; measure again")
    try:
        return json.loads(text, parse_constant=_no_constant, parse_int=_whole_number)
    except json.JSONDecodeError as error:
        # Unread text after the place means that the file is wrong there, not that it ends there.
        inside_string = error.msg.startswith("Unterminated string")
        if inside_string or error.pos >= len(text.rstrip()):
            end = len(text.rstrip())
            line, column = text.count("\n", 0, end) + 1, end - text.rfind("\n", 0, end)
            raise OutputError(
                f"{source!r} is cut off at line {line}, column {column}: "
                "get a whole copy or measure again"
            ) from None
        _reject(source, f"it is not JSON: {error}")
    except (ValueError, RecursionError) as error:
        _reject(source, str(error))


def _whole_number(text: str) -> int | float:
    """Return the number; one of more digits than Python reads is endless, for a field to refuse."""
    return int(text) if len(text) < LONGEST_NUMBER else math.inf


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}, which is no JSON")


def _read_run(data: object, source: str, label: str) -> Result:
    if isinstance(data, dict) and data.get("kind") == "freezekit fit":
        _reject(source, f"{label}it is what `freezekit fit` wrote")
    version = data.get("schema_version") if isinstance(data, dict) else None
    if not isinstance(data, dict) or type(version) is not int or "freezekit" not in data:
        _reject(source, f"{label}it lacks 'schema_version' and 'freezekit'")
    writer = data["freezekit"]
    if version > SCHEMA_VERSION:
        raise OutputError(
            f"{source!r} was written by a newer freezekit ({writer!r}, schema_version {version}; "
            f"this one reads {SCHEMA_VERSION}): pip install -U freezekit"
        )
    if version < SCHEMA_VERSION:
        raise OutputError(
            f"{source!r} was written by an older freezekit ({writer!r}, schema_version {version}; "
            f"this one reads {SCHEMA_VERSION}): measure again, or read it with that freezekit"
        )
    try:
        return from_data(data)
    except MismatchError as error:
        raise OutputError(
            f"{source!r} was changed, or written by another freezekit ({writer!r}): "
            f"{label}{error}; get the file as it was written, or measure again"
        ) from None


def _reject(source: str, why: str) -> NoReturn:
    raise OutputError(
        f"{source!r} is not a freezekit result: {why}; "
        "expected a file of `freezekit bench -o FILE.json`"
    ) from None


def _draft_beside(target: Path) -> Path:
    """Return a name in the same folder, so that renaming is atomic; another one for each writer."""
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
