"""Cells and tables of Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_MARKS = {"passed": "ok", "failed": "FAIL", "refused": "refused", "skipped": "skipped"}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    r"""Return a table.

    Example:
        >>> print(table(["a", "b"], [["1", "x|y"]]))
        | a | b |
        |---|---|
        | 1 | x\|y |
    """
    lines = [list(head), *rows]
    made = ["| " + " | ".join(_escaped(text) for text in line) + " |" for line in lines]
    return "\n".join([made[0], "|" + "---|" * len(head), *made[1:]])


def fraction(part: int, whole: int) -> str:
    """Say how many of how many.

    Example:
        >>> fraction(1338, 1371), fraction(8, 8), fraction(0, 0)
        ('1338 of 1371', 'all 8', '-')
    """
    if not whole:
        return "-"
    return f"all {whole}" if part == whole else f"{part} of {whole}"


def cell(status: str | None) -> str:
    """Return the mark of one verification.

    Example:
        >>> cell("passed"), cell(None)
        ('ok', '-')
    """
    return _MARKS.get(status or "", "-")


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
