"""The structure of a gate, found by Python's parser.

Python sees no name, number or text of the user: every operand becomes `_`. Every piece takes four
columns, so that a column in Python's tree tells the piece: `lean and peak_bytes > full` becomes
`_   and _   >   _   `. Only nodes of a whitelist pass, and nothing is evaluated.
"""

from __future__ import annotations

import ast
from bisect import bisect_left
from typing import TYPE_CHECKING

from freezekit.gate.pieces import fail_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.gate.pieces import Piece

MOST_DEPTH = 50  # deeper than any gate that a person writes; Python's parser refuses 200 brackets
_WIDTH = 4  # of the longest operators, "and" and "not", with a blank before the next piece
_ALLOWED = (
    *(ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub),
    *(ast.Compare, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq),
    *(ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Name, ast.Load),
)


def tree_of(pieces: Sequence[Piece]) -> ast.expr | None:
    """Return Python's tree of a gate, None where a piece is out of place.

    Example:
        >>> from freezekit.gate.pieces import split
        >>> ast.unparse(tree_of(split("lean and 60% < full.flops / 2")))
        '_ and _ < _ / _'
        >>> tree_of(split("flops(1) ** 2"))
    """
    return _parsed(_shape(pieces))


def place_of(part: ast.expr) -> slice:
    """Return where the pieces of a node stand among those of its gate."""
    return slice(part.col_offset // _WIDTH, (part.end_col_offset or 0) // _WIDTH + 1)


def first_misplaced(pieces: Sequence[Piece]) -> int:
    """Return the index of the first piece after which no gate can go on, else how many there are.

    The places in Python's own errors are not used: they change from version to version.

    Example:
        >>> from freezekit.gate.pieces import split
        >>> first_misplaced(split("flops > 1 1")), first_misplaced(split("(flops >"))
        (3, 3)
    """
    shape = _shape(pieces)

    def is_misplaced(index: int) -> bool:
        start = shape[: (index + 1) * _WIDTH]
        brackets = ")" * (start.count("(") - start.count(")"))
        return all(_parsed(start + operand + brackets) is None for operand in ("", "_"))

    return bisect_left(range(len(pieces)), True, key=is_misplaced)


def check_depth(text: str, pieces: Sequence[Piece]) -> None:
    """Refuse a gate too deep for Python's parser, whose limits change from version to version.

    Raises:
        GateError: The message shows the piece that is too deep.
    """
    chains = [0]  # operators since the last "and" or "or", in each open bracket
    for piece in pieces:
        if piece[0] == "(":
            chains.append(0)
        elif piece[0] == ")":
            chains = chains[:-1] or [0]
        elif not piece["operand"]:
            chains[-1] = 0 if piece[0] in ("and", "or") else chains[-1] + 1
        if len(chains) - 1 + sum(chains) > MOST_DEPTH:
            message = f"more than {MOST_DEPTH} brackets and operators in one condition"
            fail_at(text, piece.start(), piece.end(), message)


def _shape(pieces: Sequence[Piece]) -> str:
    return "".join(("_" if p["operand"] else p[0]).ljust(_WIDTH) for p in pieces)


def _parsed(shape: str) -> ast.expr | None:
    try:
        tree = ast.parse(shape, mode="eval").body
    except (SyntaxError, MemoryError):  # MemoryError: thousands of operands without an operator
        return None
    return tree if all(isinstance(part, _ALLOWED) for part in ast.walk(tree)) else None
