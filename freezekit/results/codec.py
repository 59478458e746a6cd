"""Result records to plain JSON data and back, checked field by field.

The reading side follows the type hints of the records, so that a new field needs no code here.
"""

from __future__ import annotations

import math
from dataclasses import MISSING, asdict, fields, is_dataclass, replace
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from freezekit.results.records import DISCARDED_STEPS, Count, Raw, Result, Row, Within

UNSAID = Within(-(2**64), 2**64)
"""For figures whose record does not say what they may be."""


class MismatchError(Exception):
    """Data is not what a record expects; the message names the place."""


def to_data(result: Result) -> dict[str, Any]:  # Any: JSON data
    """Return a result as JSON data; no figure in it is infinite or not a number.

    A time or control with such a figure is left out and the row says so. In the open parts (`env`,
    `timing_design`) such a figure becomes None.

    Example:
        >>> from freezekit.results.records import Workload
        >>> to_data(Result("0.1.0", Workload("timm:resnet18"), env={"load": math.inf}))["env"]
        {'load': None}
    """
    control = result.control
    if control is not None and not _is_finite(asdict(control)):
        control = None
    result = replace(result, rows=tuple(_finite_row(row) for row in result.rows), control=control)
    data = asdict(result)
    for part in ("env", "timing_design"):
        data[part] = _without_non_finite(data[part])
    first = {name: data.pop(name) for name in ("schema_version", "freezekit", "protocol")}
    raw = data.pop("raw")
    return {**first, "complete": data.pop("complete"), **data, "raw": raw}  # as people read it


def from_data(data: object) -> Result:
    """Return the result that `to_data` gave.

    A field that the record fills by itself may be missing; an unknown one may not be there.

    Raises:
        MismatchError: A field is unknown, missing, of another type or beyond what it may be, or
            fields contradict one another.

    Example:
        >>> from_data({"freezekit": "0.1.0", "env": {}, "workload": {"model": 5}})
        Traceback (most recent call last):
        ...
        freezekit.results.codec.MismatchError: workload.model is 5, expected text
    """
    result = _read(Result, data, "")
    assert isinstance(result, Result)
    _check_rows(result.rows)
    if result.raw is not None:
        _check_raw(result.raw)
    discarded = (result.timing_design or {}).get("discarded_steps", 0)
    _read(Count, discarded, "timing_design.discarded_steps")
    return result


def _check_rows(rows: tuple[Row, ...]) -> None:
    if not rows:
        raise MismatchError("rows is empty, expected a row for each strategy")
    first: dict[str, int] = {}
    for i, row in enumerate(rows):
        if row.label in first:
            raise MismatchError(
                f"rows[{i}] is {row.label!r}, which rows[{first[row.label]}] is too"
            )
        first[row.label] = i


def _check_raw(raw: Raw) -> None:
    if len(raw.order) != len(raw.steps):
        raise MismatchError(
            f"raw.order has {len(raw.order)} blocks, expected {len(raw.steps)} as raw.steps has"
        )
    for block, rounds in enumerate(raw.steps):
        for turn, turns in enumerate(rounds):
            for label, steps in turns.items():
                if len(steps) <= DISCARDED_STEPS:
                    where = f"raw.steps[{block}][{turn}].{label}"
                    raise MismatchError(
                        f"{where} is {steps}, expected over {DISCARDED_STEPS} steps"
                    )


def _finite_row(row: Row) -> Row:
    if row.time is None or _is_finite(asdict(row.time)):
        return row
    lost = f"step time left out: a figure of it is not a finite number ({row.time!r})"
    return replace(row, time=None, warnings=(*row.warnings, lost))


def _is_finite(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(_is_finite(v) for v in value.values())
    return not isinstance(value, (list, tuple)) or all(_is_finite(v) for v in value)


def _without_non_finite(value: Any) -> Any:  # Any: open JSON data
    if isinstance(value, dict):
        return {key: _without_non_finite(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_non_finite(v) for v in value]
    return value if _is_finite(value) else None


def _read(kind: Any, value: Any, where: str) -> Any:  # Any: a type, and JSON data of that type
    if kind is Any:
        return value
    if is_dataclass(kind):
        return _read_record(kind, value, where)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _read_number(arguments[0], value, where, arguments[1])
    if origin in (Union, UnionType):
        return None if value is None else _read(_not_none(arguments), value, where)
    if origin is Literal:
        _expect(isinstance(value, str) and value in arguments, value, where, _choices(arguments))
        return value
    if origin is dict:
        _expect(isinstance(value, dict), value, where, "an object")
        return {k: _read(arguments[1], v, _inside(where, k)) for k, v in value.items()}
    if origin is list or arguments[-1:] == (Ellipsis,):
        _expect(isinstance(value, list), value, where, "a list")
        return origin(_read(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin is tuple:
        length = len(arguments)
        good = isinstance(value, list) and len(value) == length
        _expect(good, value, where, f"a list of {length}")
        each = enumerate(zip(arguments, value, strict=True))
        return tuple(_read(kind, v, f"{where}[{i}]") for i, (kind, v) in each)
    return _read_scalar(kind, value, where)


def _read_record(kind: Any, value: Any, where: str) -> Any:  # Any: as _read
    _expect(isinstance(value, dict), value, where or "the result", "an object")
    known = {f.name: f for f in fields(kind)}
    for name in value:
        if name not in known:
            raise MismatchError(f"{_inside(where, name)} is not a field that is known here")
    for name, field in known.items():
        needed = field.default is MISSING and field.default_factory is MISSING
        if needed and name not in value:
            raise MismatchError(f"{_inside(where, name)} is missing")
    hints = get_type_hints(kind, include_extras=True)
    return kind(**{k: _read(hints[k], v, _inside(where, k)) for k, v in value.items()})


def _read_scalar(kind: type, value: object, where: str) -> object:
    if kind in (int, float):
        return _read_number(kind, value, where, UNSAID)
    words = {str: "text", bool: "true or false"}
    _expect(isinstance(value, kind), value, where, words[kind])
    return value


def _read_number(kind: type, value: object, where: str, limits: Within) -> int | float:
    accepted = (int, float) if kind is float else int
    is_number = isinstance(value, accepted) and not isinstance(value, bool)
    what = "a whole number" if kind is int else "a number"
    _expect(is_number, value, where, what)
    assert isinstance(value, (int, float))
    inside = limits.least <= value <= limits.most  # not so where it is not a number
    _expect(inside, value, where, f"{what} from {limits.least} to {limits.most}")
    return value


def _expect(good: bool, value: object, where: str, expected: str) -> None:
    if not good:
        shown = repr(value)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        raise MismatchError(f"{where} is {shown}, expected {expected}")


def _inside(where: str, name: object) -> str:
    return f"{where}.{name}" if where else str(name)


def _not_none(kinds: tuple[Any, ...]) -> Any:  # Any: types
    (kind,) = (k for k in kinds if k is not NoneType)
    return kind


def _choices(values: tuple[Any, ...]) -> str:  # Any: the values of a Literal
    return " or ".join(repr(v) for v in values)
