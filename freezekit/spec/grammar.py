"""A spec is one or more strategies with their options as text; here it is read and written.

    spec      strategy [ + strategy ]...          `+` composes; it needs a space on either side
    strategy  name [ : option [ , option ]... ]
    option    name=value                          hyphens in its name are read as underscores
    value     item [ | item ]...                  `|` separates the items of a tuple option

Quotes, '...' or "...", around a value or an item keep commas, bars, plus signs, quotes and spaces
in it as they are; a quote of the same kind is doubled ('it''s'). Nothing else is special: a
backslash is a backslash. Examples: `first-n-stages:n=2 + discriminative-lr:decay=0.8`,
`by-name:contains=bn|norm,invert=true`, `by-name:regex='layer[12]{1,2}'`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeVar

from freezekit.errors import SpecError, suggest
from freezekit.spec.option_types import BARE, QUOTED, read_value, write_value
from freezekit.spec.options import option_infos
from freezekit.spec.strategy import Strategy

_NAME = re.compile(r"[\w.-]+")
_OPTION = re.compile(r"\s*([^\W\d][\w-]*)\s*=")
_SPACE = re.compile(r"\s*")
_COMPOSE = re.compile(r"(?<=\s)\+(?=\s|$)")

S = TypeVar("S", bound=Strategy)


@dataclass(frozen=True)
class Part:
    """One strategy of a spec: its name, and its options as text, quotes still on."""

    name: str
    options: tuple[tuple[str, str], ...] = ()


def parse(text: str) -> tuple[Part, ...]:
    """Read a spec by its grammar alone, without looking at what there is.

    Raises:
        SpecError: It is empty or cannot be read; the message points at the spot.

    Example:
        >>> parse("by-name:contains=bn|norm,invert=yes + full")
        (Part(name='by-name', options=(('contains', 'bn|norm'), ('invert', 'yes'))),
         Part(name='full', options=()))
    """
    if not text.strip():
        raise SpecError("the spec is empty; expected one such as 'full' or 'first-n-stages:n=2'")
    parts = []
    position = -1  # just before the text: where a "+" would stand
    while True:
        position = _after_space(text, position + 1)
        name = _NAME.match(text, position)
        if name is None:
            raise _unreadable(text, position, "the name of a strategy")
        position, expected = _after_space(text, name.end()), "':' and options, "
        options: list[tuple[str, str]] = []
        if text.startswith(":", position):
            position, expected = _read_options(text, position, options), "',' and an option, "
        parts.append(Part(name.group(), tuple(options)))
        if position == len(text):
            return tuple(parts)
        if not _COMPOSE.match(text, position):
            expected += "' + ' (with spaces) and another strategy, or nothing more"
            raise _unreadable(text, position, expected)


def build(cls: type[S], options: tuple[tuple[str, str], ...]) -> S:
    """Make a strategy from options as text.

    Raises:
        SpecError: An option is unknown, missing, given twice or ill-typed, or the strategy itself
            refuses the values.
        PluginError: The class does not keep to the interface.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Demo(Strategy):
        ...     name = "demo"
        ...     n: int
        >>> build(Demo, (("n", "2"),)).n
        2
    """
    known = {info.name: info for info in option_infos(cls)}
    values: dict[str, object] = {}
    for given, raw in options:
        name = given.replace("-", "_")
        if name not in known:
            listed = f"It takes: {', '.join(known)}" if known else "It takes none"
            near = suggest(name, known) or "."
            raise SpecError(f"{cls.name}: unknown option {given!r}{near} {listed}")
        if name in values:
            raise SpecError(f"{cls.name}: option {name!r} is given twice")
        try:
            values[name] = read_value(known[name].type, raw)
        except ValueError as error:
            raise SpecError(f"{cls.name}: option {name!r} {error}") from None
    missing = [info for info in known.values() if info.required and info.name not in values]
    if missing:
        first = missing[0]
        raise SpecError(
            f"{cls.name}: option {first.name!r} is missing, expected "
            f"'{cls.name}:{first.name}=...' ({first.type_text}{first.help and ': '}{first.help})"
        )
    try:
        return cls(**values)
    except ValueError as error:
        raise SpecError(f"{cls.name}: {error}") from error


def format_strategy(strategy: Strategy) -> str:
    """Return the canonical text of a strategy: what is required, and what is not the default.

    Raises:
        PluginError: Its class does not keep to the interface.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Demo(Strategy):
        ...     name = "demo"
        ...     parts: tuple[str, ...] = ()
        ...     deep: bool = False
        >>> format_strategy(Demo(parts=("a", "b c")))
        "demo:parts=a|'b c'"
    """
    cls = type(strategy)
    texts = [
        f"{info.name}={write_value(info.type, value)}"
        for info in option_infos(cls)
        if (value := getattr(strategy, info.name)) != info.default
    ]
    return f"{cls.name}:{','.join(texts)}" if texts else cls.name


def _read_options(text: str, position: int, options: list[tuple[str, str]]) -> int:
    """Read options into the list, from the colon on; return where they end."""
    while True:
        option = _OPTION.match(text, position + 1)
        if option is None:
            hint = "; put quotes around a value that has a comma" if options else ""
            raise _unreadable(text, _after_space(text, position + 1), f"option=value{hint}")
        end = _after_value(text, option.end())
        options.append((option.group(1), text[option.end() : end].strip()))
        position = end
        if not text.startswith(",", position):
            return position


def _after_value(text: str, position: int) -> int:
    while True:
        start = _after_space(text, position)
        quoted = QUOTED.match(text, position)
        bare = BARE.match(text, position)
        assert bare is not None  # it matches anything, if only nothing
        if quoted is None and text.startswith(("'", '"'), start):
            raise _unreadable(text, start, f"the quote {text[start]} to be closed")
        position = _after_space(text, (quoted or bare).end())
        if not text.startswith("|", position):
            return position
        position += 1


def _after_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position


def _unreadable(text: str, position: int, expected: str) -> SpecError:
    rest = text[position : position + 20]
    spot = f"at character {position + 1}, {rest!r}" if rest else "at its end"
    return SpecError(f"cannot read the spec {text!r} {spot}: expected {expected}")
