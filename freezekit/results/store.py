"""The result file: JSON, read strictly.

One run is one JSON object; a file of several models holds a JSON array of such objects.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from freezekit.errors import OutputError
from freezekit.results.files import read_text
from freezekit.results.reading import FileKind, read_objects, writable
from freezekit.results.records import Raw, Result, Row

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_FIRST = ("schema_version", "freezekit", "protocol", "complete")  # as people read it
_LAST = "raw"  # long: in one line


def to_json(results: Sequence[Result]) -> str:
    r"""Return one result as a JSON object, several as a JSON array of objects.

    A time or control with a figure that is infinite or not a number is left out, and the row says
    so. Elsewhere such a figure becomes null.

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
    objects = [_object(result) for result in results]
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
    return read_objects(text, source, _BENCH)


def load(path: str | Path) -> tuple[Result, ...]:
    """Return the results of a file, one for each model.

    Raises:
        OutputError: The file cannot be read, or is no result file of this freezekit.
    """
    return from_json(read_text(path), str(path))


def as_data(result: Result) -> dict[str, Any]:  # Any: JSON data
    """Return what `to_json` writes of a result, as JSON data: no figure in it is not finite.

    Example:
        >>> from freezekit.results.records import Workload
        >>> as_data(Result("0.1.0", Workload("timm:resnet18"), env={"load": math.inf}))["env"]
        {'load': None}
    """
    control = result.control
    if control is not None and not _is_finite(control):
        control = None
    rows = tuple(_finite_row(row) for row in result.rows)
    schedules = tuple(
        one if _is_finite(one.time) else replace(one, time=None) for one in result.schedules
    )
    finite = replace(result, rows=rows, control=control, schedules=schedules)
    whole = writable(msgspec.to_builtins(finite))
    # The encoder makes null of what is not finite.
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(whole))
    first = {name: found.pop(name) for name in _FIRST}
    last = found.pop(_LAST)
    return {**first, **found, _LAST: last}


def _finite_row(row: Row) -> Row:
    if row.time is None or _is_finite(row.time):
        return row
    lost = f"step time left out: a figure of it is not a finite number ({row.time!r})"
    return replace(row, time=None, warnings=(*row.warnings, lost))


def _is_finite(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, msgspec.Struct):
        return _is_finite(msgspec.structs.astuple(value))
    if isinstance(value, dict):
        return _is_finite(tuple(value.values()))
    return not isinstance(value, tuple) or all(map(_is_finite, value))


def _object(result: Result) -> str:
    """Return JSON that a person can read: indented, but the raw steps without."""
    parts = []
    for key, value in as_data(result).items():
        encoded = msgspec.json.encode(value)
        text = msgspec.json.format(encoded, indent=0 if key == _LAST else 2).decode()
        parts.append(f'"{key}": {text}')
    inside = ",\n".join(parts).replace("\n", "\n  ")  # no string in JSON holds a newline
    return f"{{\n  {inside}\n}}"


def _check(result: Result, where: str) -> None:
    """Refuse fields that contradict one another, which types do not tell.

    Raises:
        ValidationError: The message names the place.
    """
    first: dict[str, int] = {}
    for i, row in enumerate(result.rows):
        if first.setdefault(row.label, i) != i:
            raise msgspec.ValidationError(
                f"{where}rows[{i}] is {row.label!r}, which {where}rows[{first[row.label]}] is too"
            )
    for i, schedule in enumerate(result.schedules):
        for j, phase in enumerate(schedule.phases):
            if phase.row not in first:
                raise msgspec.ValidationError(
                    f"{where}schedules[{i}].phases[{j}].row is {phase.row!r}, which no row is"
                )
    raw = result.raw or Raw()
    if len(raw.order) != len(raw.steps):
        raise msgspec.ValidationError(
            f"{where}raw.order has {len(raw.order)} blocks, expected {len(raw.steps)} as raw.steps "
            "has"
        )
    discarded = (result.timing_design or {}).get("discarded_steps", 0)
    if type(discarded) is not int or discarded < 0:
        raise msgspec.ValidationError(
            f"{where}timing_design.discarded_steps is {discarded!r}, expected a whole number"
        )


_BENCH = FileKind(Result, "freezekit bench", "measure again", _check)
