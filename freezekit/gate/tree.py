"""A gate as a tree of small records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

Unit = Literal["bytes", "operations", "seconds", "ratio", "count", "text", "truth"]
REFERENCES = ("full", "stock", "baseline")
LOGIC = ("and", "or", "not")
ARITHMETIC = ("+", "-", "*", "/")


@dataclass(frozen=True)
class Constant:
    """A number in bytes, in seconds, as a ratio or without unit (`unit` is None), or a text."""

    value: float | str
    unit: Unit | None


@dataclass(frozen=True)
class Figure:
    """A figure by its name: of one of `REFERENCES`, or of the judged row where `of` is None."""

    name: str
    of: str | None


@dataclass(frozen=True)
class Operation:
    """What `LOGIC` makes of conditions, `ARITHMETIC` of numbers, a comparison of its two sides."""

    sign: str
    parts: tuple[Node, ...]


Node = Constant | Figure | Operation


def walk(node: Node) -> Iterator[Node]:
    """Yield a node and all below it, from left to right.

    Example:
        >>> tree = Operation(">", (Figure("flops", None), Figure("flops", "full")))
        >>> [found.of for found in walk(tree) if isinstance(found, Figure)]
        [None, 'full']
    """
    yield node
    for part in node.parts if isinstance(node, Operation) else ():
        yield from walk(part)


def texts_beside(node: Node, name: str) -> Iterator[str]:
    """Yield every text that the figure of that name is compared with, from left to right.

    Example:
        >>> tree = Operation("==", (Figure("strategy", None), Constant("full", "text")))
        >>> list(texts_beside(tree, "strategy"))
        ['full']
    """
    for found in walk(node):
        match found:
            case Operation(_, (Figure(other), Constant(str(text)))) | Operation(
                _, (Constant(str(text)), Figure(other))
            ) if other == name:
                yield text
