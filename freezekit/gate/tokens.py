"""A gate's text in pieces, and errors that show the place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from freezekit.errors import GateError
from freezekit.results import sizes

if TYPE_CHECKING:
    from freezekit.gate.tree import Unit

MOST_SHOWN = 300  # characters of a gate in an error: more than a person writes
UNITS: dict[str, float] = {**sizes.UNITS, "ms": 1e-3, "s": 1.0, "%": 1e-2}
UNIT_COUNTS: dict[str, Unit] = {
    **dict.fromkeys(sizes.UNITS, "bytes"),
    "ms": "seconds",
    "s": "seconds",
    "%": "ratio",
}
"""What a number of each unit counts."""
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)(?P<unit>[A-Za-z]+|%)?"
    r"|(?P<name>[A-Za-z_][\w.]*)"
    r"|(?P<text>'[^']*'|\"[^\"]*\")"
    r"|(?P<sign><=|>=|==|!=|[<>+\-*/()]))"
)


@dataclass(frozen=True)
class Token:
    """A piece of text: a "number" with its unit, "name", "text", "sign", or the "end"."""

    kind: str
    text: str
    start: int
    unit: str | None = None


def split(text: str) -> list[Token]:
    """Return the pieces of a gate, the end last.

    Raises:
        GateError: A character has no meaning.

    Example:
        >>> [token.text for token in split("flops<=2e9")]
        ['flops', '<=', '2e9', '']
    """
    tokens, at, whole = [], 0, text.rstrip()
    while at < len(whole):
        found = _TOKEN.match(whole, at)
        if not found:
            start = len(whole) - len(whole[at:].lstrip())
            fail_at(text, Token("sign", whole[start], start), f"unexpected {whole[start]!r}")
        kind = next(k for k in ("number", "name", "text", "sign") if found[k] is not None)
        tokens.append(Token(kind, found[kind], found.start(kind), found["unit"]))
        at = found.end()
    return [*tokens, Token("end", "", len(whole))]


def fail_at(text: str, token: Token, message: str) -> NoReturn:
    """Raise with the place marked under the gate's text, of a very long one under what is around.

    Raises:
        GateError: Always.
    """
    first = max(0, token.start - MOST_SHOWN // 2) if len(text) > MOST_SHOWN else 0
    last = min(len(text), first + MOST_SHOWN)
    before, after = ("..." if first else ""), ("..." if last < len(text) else "")
    line = "".join(c if c.isprintable() else " " for c in text[first:last])
    width = min(len(token.text) + len(token.unit or ""), last - token.start)
    mark = " " * (len(before) + token.start - first) + "^" * max(1, width)
    raise GateError(f"{message}\n  {before}{line}{after}\n  {mark}")
