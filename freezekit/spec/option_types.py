"""The types that an option of a strategy can have, and their values read and written as text."""

from __future__ import annotations

import re
import types
from dataclasses import dataclass, replace
from typing import Literal, Union, get_args, get_origin

from freezekit.errors import suggest
from freezekit.spec.training_time import TrainingTime

QUOTED = re.compile(r"""\s*('(?:[^']|'')*'|"(?:[^"]|"")*")\s*""")
"""A value in quotes; a quote of the same kind inside it is doubled."""
BARE = re.compile(r"(?:(?!\s\+(?:\s|$))[^,|])*")
"""A value without quotes: up to a comma, a bar, or a `+` between spaces."""
SUPPORTED = "int, float, bool, str, TrainingTime, Literal, Optional, or a tuple of these"

_NONE = ("none", "None")
_BOOLS = {"true": True, "yes": True, "on": True, "1": True}
_BOOLS |= {"false": False, "no": False, "off": False, "0": False}
_EXPECTED = {
    int: "an int",
    float: "a float",
    bool: "true or false",
    str: "a text",
    TrainingTime: "a time such as 1ep, 500step or 50%",
}


@dataclass(frozen=True)
class OptionType:
    """The type of an option: a plain type, a set of choices, or a tuple of such items.

    Attributes:
        plain: int, float, bool, str or TrainingTime; None if `choices` or `items` give the type.
        choices: The values of a Literal.
        items: The types of the items of a tuple.
        repeated: Whether the tuple holds any number of `items[0]`.
        optional: Whether None is allowed too.
    """

    plain: type | None = None
    choices: tuple[object, ...] = ()
    items: tuple[OptionType, ...] = ()
    repeated: bool = False
    optional: bool = False

    def __str__(self) -> str:
        if self.repeated:
            text = f"{_in_brackets(self.items[0])}|..."
        elif self.items:
            text = "|".join(map(_in_brackets, self.items))
        elif self.plain:
            text = "time" if self.plain is TrainingTime else self.plain.__name__
        else:
            text = " or ".join(map(_choice_text, self.choices))
        return f"{text} or none" if self.optional else text

    @property
    def expected(self) -> str:
        """What the user can write, as the object of the verb "takes"."""
        if self.repeated:
            text = f"items separated by '|', each {self.items[0].expected}"
        elif self.items:
            text = f"{len(self.items)} items separated by '|' ({self})"
        elif self.plain:
            text = _EXPECTED[self.plain]
        else:
            text = " or ".join(repr(_choice_text(choice)) for choice in self.choices)
        return f"{text}, or none" if self.optional else text


def option_type(hint: object) -> OptionType | None:
    """Return the option type of an annotation, or None if a spec cannot write such values.

    Example:
        >>> print(option_type(tuple[str, ...]), option_type(int | None), option_type(bytes))
        str|... int or none None
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        others = [option_type(arg) for arg in args if arg is not types.NoneType]
        inner = others[0] if len(args) == 2 and len(others) == 1 else None
        if inner is None or any(item.optional for item in inner.items):
            return None  # in an optional tuple of optional items, "none" would have two meanings
        return replace(inner, optional=True)
    if origin is Literal:
        return OptionType(choices=args)
    if origin is tuple:
        repeated = len(args) == 2 and args[1] is Ellipsis
        items = [option_type(arg) for arg in (args[:1] if repeated else args)]
        known = tuple(item for item in items if item is not None and not item.items)
        if not items or len(known) != len(items):
            return None
        return OptionType(items=known, repeated=repeated)
    return OptionType(plain=hint) if isinstance(hint, type) and hint in _EXPECTED else None


def read_value(kind: OptionType, raw: str) -> object:
    """Return the value of a text.

    Args:
        kind: The type of the option.
        raw: The text in the spec, with its quotes.

    Raises:
        ValueError: The text is not of that type; the message gives the text and the type.

    Example:
        >>> kind = OptionType(items=(OptionType(str),), repeated=True)
        >>> read_value(kind, "bn|'a|b'")
        ('bn', 'a|b')
    """
    if kind.optional and raw in _NONE:
        return None
    if not kind.items:
        quoted = QUOTED.fullmatch(raw)
        if quoted is None and QUOTED.match(raw):
            raise ValueError(f"takes one value, got {raw!r}; put quotes around all of it")
        return _read_item(kind, raw)
    raws = _split(raw)
    if kind.repeated and raws != [""]:
        return tuple(_read_item(kind.items[0], item) for item in raws)
    if kind.repeated:
        return ()
    if len(raws) != len(kind.items):
        raise ValueError(f"takes {kind.expected}, got {raw!r}")
    return tuple(_read_item(item, text) for item, text in zip(kind.items, raws, strict=True))


def write_value(kind: OptionType, value: object) -> str:
    """Return the text of a value in a spec, in quotes if it needs them.

    Example:
        >>> print(write_value(OptionType(str), "a, b"), write_value(OptionType(bool), True))
        'a, b' true
    """
    if value is None:
        return "none"
    if kind.items and isinstance(value, (tuple, list)):
        types_of = kind.items * len(value) if kind.repeated else kind.items
        return "|".join(
            write_value(replace(item, optional=item.optional or kind.optional), each)
            for item, each in zip(types_of, value, strict=True)
        )
    if isinstance(value, str):
        return _quote(value, optional=kind.optional)
    return _choice_text(value)


def _read_item(kind: OptionType, raw: str) -> object:
    if kind.optional and raw in _NONE:
        return None
    text = _unquote(raw)
    if kind.plain is str:
        if not raw:
            raise ValueError("has no value; write '' for an empty text")
        return text
    try:
        if kind.plain is bool:
            return _BOOLS[text.lower()]
        if kind.plain is int:
            return int(text)
        if kind.plain is TrainingTime:
            return TrainingTime.parse(text)
        if kind.plain is float and (number := float(text)) == number:  # refuses nan
            return number
        return {_choice_text(choice): choice for choice in kind.choices}[text]
    except (ValueError, KeyError):
        pass
    hint = suggest(text, map(_choice_text, kind.choices))
    if "+" in raw:
        hint = f"{hint or '.'} To compose strategies, put spaces around '+'"
    raise ValueError(f"takes {kind.expected}, got {text!r}{hint}")


def _split(raw: str) -> list[str]:
    """Split at the bars that are not in quotes."""
    items, position = [], 0
    while True:
        found = QUOTED.match(raw, position) or re.compile("[^|]*").match(raw, position)
        assert found is not None  # the second pattern matches any text
        items.append(found.group().strip())
        if found.end() == len(raw):
            return items
        position = found.end() + 1


def _quote(text: str, *, optional: bool) -> str:
    if text and not re.search(r"[\s,|+'\"]", text) and not (optional and text in _NONE):
        return text
    mark = '"' if "'" in text and '"' not in text else "'"
    return mark + text.replace(mark, mark * 2) + mark


def _unquote(raw: str) -> str:
    quoted = QUOTED.fullmatch(raw)
    if quoted is None:
        return raw
    inside = quoted.group(1)
    return inside[1:-1].replace(inside[0] * 2, inside[0])


def _choice_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def _in_brackets(kind: OptionType) -> str:
    return f"({kind})" if kind.choices or kind.optional else str(kind)
