"""Strict reading of the JSON files that freezekit writes, and what is the same in writing them."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

import msgspec

from freezekit.errors import OutputError
from freezekit.results.records import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

_NAMED = {"freezekit fit": "fit", "freezekit sweep": "sweep"}
"""What the objects of a command are called; `freezekit bench` wrote before there were kinds."""

S = TypeVar("S", bound=msgspec.Struct)
D = TypeVar("D", bound=msgspec.Struct)


@dataclass(frozen=True)
class FileKind(Generic[S]):
    """What a file holds: one object, or an array of them.

    Attributes:
        record: The record of an object.
        command: That which writes such files. Its name is the field `kind` of its objects, but for
            those of `freezekit bench`, which have none.
        again: What to do where a file cannot be used.
        check: Refuses, with a ValidationError, fields that contradict one another; it is given an
            object, and what comes before the names of its fields, such as "[0].".
    """

    record: type[S]
    command: str
    again: str
    check: Callable[[S, str], None]


class _Header(msgspec.Struct):
    """What tells who wrote an object; whatever else there is is not looked at."""

    schema_version: int | None = None
    freezekit: str | None = None
    kind: str | None = None


def is_of(text: str, command: str) -> bool:
    """Tell whether a text is a file of this command, be it cut off or of a newer freezekit.

    Example:
        >>> is_of('{"kind": "freezekit sweep", "rows": [', "freezekit sweep")
        True
    """
    return re.match(rf'\s*\{{\s*"kind"\s*:\s*"{re.escape(command)}"', text) is not None


def read_objects(text: str, source: str, kind: FileKind[S]) -> tuple[S, ...]:
    """Return the objects of a file.

    Args:
        text: Its content.
        source: How error messages call it, such as its name.
        kind: What is expected.

    Raises:
        OutputError: The text is cut off, is not JSON, comes from another tool or command, or was
            written by an older or newer freezekit whose files differ; the message says which, and
            what to do.
    """
    headers = _headers(text, source, kind)
    is_list = _is_list(text)
    for number, header in enumerate(headers, 1):
        _check_header(header, source, f"run {number}: " if is_list else "", kind)
    try:
        found = _decoded(text, kind.record)
        for number, each in enumerate(found):
            kind.check(each, f"[{number}]." if is_list else "")
    except (msgspec.ValidationError, RecursionError) as error:
        raise OutputError(
            f"{source!r} was changed, or written by another freezekit ({headers[0].freezekit!r}): "
            f"{_in_words(str(error), text)}; get the file as it was written, or {kind.again}"
        ) from None
    return found


def _headers(text: str, source: str, kind: FileKind[S]) -> tuple[_Header, ...]:
    if not text.strip():
        raise OutputError(f"{source!r} is empty: nothing was written to it; {kind.again}")
    try:
        found = _decoded(text, _Header)
    except msgspec.ValidationError as error:
        _reject(source, _in_words(str(error), text), kind)
    except RecursionError:
        _reject(source, "it is nested too deeply", kind)
    except msgspec.DecodeError as error:
        if "truncated" in str(error):
            line, column = _place(text.rstrip(), len(text.rstrip()))
            raise OutputError(
                f"{source!r} is cut off at line {line}, column {column}: "
                f"get a whole copy or {kind.again}"
            ) from None
        _reject(source, f"it is not JSON: {_in_words(str(error), text)}", kind)
    if not found:
        raise OutputError(f"{source!r} holds no result: its list is empty")
    return found


def _decoded(text: str, kind: type[D]) -> tuple[D, ...]:
    """Return the records of a text that holds one of them, or a list of them."""
    if _is_list(text):
        return msgspec.json.decode(text, type=tuple[kind, ...])  # type: ignore[valid-type]  # a type
    return (msgspec.json.decode(text, type=kind),)


def _is_list(text: str) -> bool:
    return text.lstrip().startswith("[")


def _check_header(header: _Header, source: str, label: str, kind: FileKind[S]) -> None:
    version, writer = header.schema_version, header.freezekit
    if header.kind in _NAMED and header.kind != kind.command:
        _reject(source, f"{label}it is what `{header.kind}` wrote", kind)
    if version is None or writer is None:
        _reject(source, f"{label}it lacks 'schema_version' and 'freezekit'", kind)
    if kind.command in _NAMED and header.kind != kind.command:
        _reject(source, f"{label}it is of another command", kind)
    if version > SCHEMA_VERSION:
        raise OutputError(
            f"{source!r} was written by a newer freezekit ({writer!r}, schema_version {version}; "
            f"this one reads {SCHEMA_VERSION}): pip install -U freezekit"
        )
    if version < SCHEMA_VERSION:
        raise OutputError(
            f"{source!r} was written by an older freezekit ({writer!r}, schema_version {version}; "
            f"this one reads {SCHEMA_VERSION}): {kind.again}, or read it with that freezekit"
        )


def _in_words(said: str, text: str) -> str:
    """Return an error of msgspec with what stands at its place: a field, or a line and column.

    Example:
        >>> _in_words("Expected `int`, got `str` - at `$.rows[0].n`", '{"rows": [{"n": "x"}]}')
        "rows[0].n is 'x': expected `int`, got `str`"
    """
    if found := re.fullmatch(r"(.*) \(byte (\d+)\)", said):
        line, column = _place(text, len(text.encode()[: int(found[2])].decode(errors="ignore")))
        return f"{found[1]}, line {line}, column {column}"
    found = re.fullmatch(r"(.*) - at `\$\.?(.*)`", said)
    if not found:
        return said
    what, where = found[1][0].lower() + found[1][1:], found[2]
    return f"{where}{_shown(where, text)}: {what}"


def _shown(where: str, text: str) -> str:
    """Return " is VALUE" of the place; "" where it cannot be told, and of what holds much."""
    with suppress(msgspec.DecodeError, KeyError, IndexError, TypeError, ValueError, RecursionError):
        value = msgspec.json.decode(text)
        for key, index in re.findall(r"([^.\[\]]+)|\[(.+?)\]", where):
            value = value[key] if key else value[int(index)]
        shown = repr(value)
        if isinstance(value, dict) and value:
            return ""
        return f" is {shown}" if len(shown) <= 60 else f" is {shown[:57]}..."
    return ""


def _place(text: str, end: int) -> tuple[int, int]:
    return text.count("\n", 0, end) + 1, end - text.rfind("\n", 0, end)


def _reject(source: str, why: str, kind: FileKind[S]) -> NoReturn:
    raise OutputError(
        f"{source!r} is not a freezekit {_NAMED.get(kind.command, 'result')}: {why}; "
        f"expected a file of `{kind.command} -o FILE.json`"
    ) from None


def writable(value: Any) -> Any:  # Any: JSON data
    """Return data whose texts are all UTF-8: what is not, such as a file's odd name, is escaped."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {writable(key): writable(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [writable(inner) for inner in value]
    return value
