"""A gate's text in pieces, and errors that mark a place in it."""

from __future__ import annotations

import re
from typing import NoReturn

from freezekit.errors import GateError

Piece = re.Match[str]
"""An operator or a bracket, or an "operand": a figure's name, a number with its unit, a text."""

_MOST_QUOTED = 60  # characters of one piece in a message
MOST_SHOWN = 300  # characters of a gate in an error: more than a person writes
_LANGUAGE = "figures, numbers, 'texts', + - * / < <= > >= == != and or not ( )"
_PIECE = re.compile(
    r"(?:and|or|not)(?![\w.])|<=|>=|==|!=|[<>+\-*/()]"
    r"|(?P<operand>'[^']*'|\"[^\"]*\""  # a text
    r"|\.?\d(?:[eE][+-]?\d|[\w.])*%?"  # all that begins like a number, so that errors mark it whole
    r"|[A-Za-z_][\w.]*)"  # a name
    r"|(?P<unknown>\S)"
)


def split(text: str) -> list[Piece]:
    """Return the pieces of a gate.

    Raises:
        GateError: A character has no meaning.

    Example:
        >>> [piece[0] for piece in split("flops<=2e9 and lean")]
        ['flops', '<=', '2e9', 'and', 'lean']
    """
    pieces = list(_PIECE.finditer(text))
    for piece in pieces:
        if piece["unknown"]:
            message = f"unexpected {piece[0]!r}; a gate is made of {_LANGUAGE}"
            fail_at(text, piece.start(), piece.end(), message)
    return pieces


def fail_at(text: str, start: int, end: int, message: str) -> NoReturn:
    """Raise with a place marked under the gate, or under what surrounds it in a very long gate.

    Args:
        text: The gate.
        start: The index of the first marked character.
        end: The index after the last one.
        message: What is wrong there.

    Raises:
        GateError: Always.
    """
    first = max(0, start - MOST_SHOWN // 2) if len(text) > MOST_SHOWN else 0
    last = min(len(text), first + MOST_SHOWN)
    before, after = ("..." if first else ""), ("..." if last < len(text) else "")
    line = "".join(c if c.isprintable() else " " for c in text[first:last])
    mark = " " * (len(before) + start - first) + "^" * max(1, min(end, last) - start)
    raise GateError(f"{message}\n  {before}{line}{after}\n  {mark}")


def shortened(text: str) -> str:
    """Return a piece as a message quotes it: of a very long one its beginning.

    Example:
        >>> shortened("peak_bytes"), len(shortened("9" * 5000))
        ('peak_bytes', 63)
    """
    return text if len(text) <= _MOST_QUOTED else f"{text[:_MOST_QUOTED]}..."
