"""A gate as a tree of small records."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Iterator

Kind = Literal["number", "text", "truth"]
Unit = Literal["bytes", "operations", "seconds", "ratio", "count", "text", "truth"]
Reference = Literal["full", "stock", "baseline"]
REFERENCES: tuple[Reference, ...] = get_args(Reference)


@dataclass(frozen=True)
class Constant:
    """A number in bytes, seconds, as a ratio or as it is (`unit` is None), or a text."""

    value: float | str
    unit: Unit | None
    start: int


@dataclass(frozen=True)
class Figure:
    """A figure by its name; of the judged row where `of` is None."""

    name: str
    of: Reference | None
    start: int


@dataclass(frozen=True)
class Counterpart:
    """A row that figures are measured against, named alone; parsing replaces it by a `Figure`."""

    of: Reference
    start: int


@dataclass(frozen=True)
class Arithmetic:
    """Two numbers and a sign: + - * /."""

    sign: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Comparison:
    """Two numbers, or two texts, compared."""

    sign: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Logic:
    """Conditions joined by "and" or "or"."""

    word: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Negation:
    """A condition turned round."""

    condition: Node


Node = Constant | Figure | Counterpart | Arithmetic | Comparison | Logic | Negation
NODES = get_args(Node)


def figures(node: Node) -> Iterator[Figure]:
    """Yield every figure of a tree, from left to right.

    Example:
        >>> tree = Comparison(">", Figure("flops", None, 0), Figure("flops", "full", 8))
        >>> [(found.of, found.name) for found in figures(tree)]
        [(None, 'flops'), ('full', 'flops')]
    """
    if isinstance(node, Figure):
        yield node
    for child in _children(node).values():
        yield from figures(child)


def texts_beside(node: Node, name: str) -> Iterator[str]:
    """Yield every text that the figure of that name is compared with, from left to right.

    Example:
        >>> tree = Comparison("==", Figure("strategy", None, 0), Constant("full", "text", 12))
        >>> list(texts_beside(tree, "strategy"))
        ['full']
    """
    match node:
        case Comparison(_, Figure(found), Constant(str(text))) if found == name:
            yield text
        case Comparison(_, Constant(str(text)), Figure(found)) if found == name:
            yield text
    for child in _children(node).values():
        yield from texts_beside(child, name)


def counterparts(node: Node) -> Iterator[Counterpart]:
    """Yield every counterpart of a tree, from left to right."""
    if isinstance(node, Counterpart):
        yield node
    for child in _children(node).values():
        yield from counterparts(child)


def filled(node: Node, name: str) -> Node:
    """Return the tree with the figure of that name in the place of each counterpart.

    Example:
        >>> filled(Counterpart("full", 3), "flops")
        Figure(name='flops', of='full', start=3)
    """
    if isinstance(node, Counterpart):
        return Figure(name, node.of, node.start)
    changed: dict[str, Any] = {  # Any: fields of whichever node
        part: filled(child, name) for part, child in _children(node).items()
    }
    return replace(node, **changed)


def _children(node: Node) -> dict[str, Node]:
    """Return the nodes that a node is made of, by the names of its fields."""
    parts = {f.name: getattr(node, f.name) for f in fields(node)}
    return {name: part for name, part in parts.items() if isinstance(part, NODES)}
