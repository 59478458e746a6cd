"""Read and write specs. A spec is the text of one or more strategies with their options.

    spec      sum [ | sum ]...                    `|` unites what is trained
    sum       strategy [ + strategy ]...          `+` unites what is frozen
    strategy  name [ : option [ , option ]... ]
    option    name=value                          a hyphen in the name is read as an underscore
    value     item [ | item ]...                  `|` separates the items of a tuple option

`+` and `|` between strategies need a space on each side. `+` binds more closely: `a | b + c` trains
what `a` trains, and what `b + c` trains. A bar that lacks a space on a side separates items.

A value or an item can stand in quotes, '...' or "...". Quotes keep commas, bars, plus signs, spaces
and quotes of the other kind as they are. A quote of the same kind is doubled ('it''s'). No other
character is special, the backslash included. Examples: `first-n-stages:n=2 +
discriminative-lr:decay=0.8`, `by-name:contains=bn|norm,invert=true`,
`by-name:regex='layer[12]{1,2}'`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from freezekit.errors import SpecError, suggest
from freezekit.spec.named import Named
from freezekit.spec.option_types import BARE, QUOTED, read_value, write_value
from freezekit.spec.options import option_infos

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freezekit.spec.strategy import Strategy

_NAME = re.compile(r"[\w.-]+")
_OPTION = re.compile(r"\s*([^\W\d][\w-]*)\s*=")
_SPACE = re.compile(r"\s*")
_JOIN = re.compile(r"(?<=\s)[+|](?=\s|$)")

BAR_HINT = (
    ". A bar with a space on each side unites strategies; to separate the items of an option, "
    "write the bar without spaces, as in 'contains=bn|norm'"
)
"""What to say if a bar after an option does not stand before the name of a strategy."""

N = TypeVar("N", bound=Named)


@dataclass(frozen=True)
class Part:
    """One strategy of a spec.

    Attributes:
        name: Its name.
        options: Its options as text with their quotes.
        unites: Whether it begins a new sum: `|` stands before it, and not `+`.
    """

    name: str
    options: tuple[tuple[str, str], ...] = ()
    unites: bool = False


def parse(text: str) -> tuple[Part, ...]:
    """Read a spec by its grammar. Names of strategies and options are not checked.

    Raises:
        SpecError: The text is empty or cannot be read; the message gives the position.

    Example:
        >>> parse("by-name:contains=bn|norm,invert=yes + full")
        (Part(name='by-name', options=(('contains', 'bn|norm'), ('invert', 'yes')), unites=False),
         Part(name='full', options=(), unites=False))
    """
    if not text.strip():
        raise SpecError("the spec is empty; expected text such as 'full' or 'first-n-stages:n=2'")
    parts: list[Part] = []
    position = -1  # each round starts after a "+" or "|"; the first as if one stood before the text
    while True:
        unites = position >= 0 and text[position] == "|"
        position = _after_space(text, position + 1)
        name = _NAME.match(text, position)
        hint = BAR_HINT if unites and parts[-1].options else ""
        if name is None:
            raise _syntax_error(text, position, f"the name of a strategy{hint}")
        position, expected = _after_space(text, name.end()), "':' and options, "
        options: list[tuple[str, str]] = []
        if text.startswith(":", position):
            position, expected = _read_options(text, position, options), "',' and an option, "
        parts.append(Part(name.group(), tuple(options), unites))
        if position == len(text):
            return tuple(parts)
        if not _JOIN.match(text, position):
            expected += "' + ' (with spaces) and another strategy, or nothing more"
            if text.startswith("|", position):
                expected += "; ' | ' (with spaces) unites what two strategies train"
            raise _syntax_error(text, position, expected + hint)


def build(cls: type[N], options: tuple[tuple[str, str], ...]) -> N:
    """Make a strategy or a schedule from options as text.

    Raises:
        SpecError: An option is unknown, missing, given twice or of a wrong type, or the class
            refuses the values.
        PluginError: The class breaks the interface.

    Example:
        >>> from dataclasses import dataclass
        >>> from freezekit import Strategy
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
            options_text = f"Its options are: {', '.join(known)}" if known else "It has no options"
            near = suggest(name, known) or "."
            raise SpecError(f"{cls.name}: unknown option {given!r}{near} {options_text}")
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
            f"'{cls.name}:{first.name}=<{first.type_text}>'" + (first.help and f" ({first.help})")
        )
    try:
        return cls(**values)
    except ValueError as error:
        raise SpecError(f"{cls.name}: {error}") from error


def format_named(named: Named) -> str:
    """Return the canonical text of a strategy or a schedule, without options at their default.

    Raises:
        PluginError: The class breaks the interface.

    Example:
        >>> from dataclasses import dataclass
        >>> from freezekit import Strategy
        >>> @dataclass(frozen=True)
        ... class Demo(Strategy):
        ...     name = "demo"
        ...     parts: tuple[str, ...] = ()
        ...     deep: bool = False
        >>> format_named(Demo(parts=("a", "b c")))
        "demo:parts=a|'b c'"
    """
    cls = type(named)
    texts = [
        f"{info.name}={write_value(info.type, value)}"
        for info in option_infos(cls)
        if (value := getattr(named, info.name)) != info.default
    ]
    return f"{cls.name}:{','.join(texts)}" if texts else cls.name


def format_spec(sums: Iterable[Iterable[Strategy]]) -> str:
    """Return the canonical text of the strategies of a spec.

    Args:
        sums: The sums that `|` unites, each of the strategies that `+` composes.

    Raises:
        PluginError: The class of a strategy breaks the interface.

    Example:
        >>> from freezekit_strategies import BiasOnly, Full, NormOnly
        >>> format_spec([[NormOnly()], [BiasOnly(head=False), Full()]])
        'norm-only | bias-only:head=false + full'
    """
    return " | ".join(" + ".join(map(format_named, strategies)) for strategies in sums)


def _read_options(text: str, position: int, options: list[tuple[str, str]]) -> int:
    """Append the options after the colon at `position` to the list; return where they end."""
    while True:
        option = _OPTION.match(text, position + 1)
        if option is None:
            hint = "; put quotes around a value that contains a comma" if options else ""
            raise _syntax_error(text, _after_space(text, position + 1), f"option=value{hint}")
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
        assert bare is not None  # it matches any text, the empty one too
        if quoted is None and text.startswith(("'", '"'), start):
            raise _syntax_error(text, start, f"the quote {text[start]} to be closed")
        position = _after_space(text, (quoted or bare).end())
        if not text.startswith("|", position) or _JOIN.match(text, position):
            return position
        position += 1


def _after_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position


def _syntax_error(text: str, position: int, expected: str) -> SpecError:
    rest = text[position : position + 20]
    place = f"at character {position + 1}, {rest!r}" if rest else "at its end"
    return SpecError(f"cannot read the spec {text!r} {place}: expected {expected}")
