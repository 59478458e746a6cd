"""Parts of sentences: percentages, lists of names, and texts cut to a length."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from freezekit.report.formatting import change, share

if TYPE_CHECKING:
    from collections.abc import Sequence

CUT = " (cut)"
_CLAUSE_ENDS = re.compile(r"(?=[;:.] )")


def percent(fraction: float | None) -> str:
    """Return a fraction in % as prose writes it; table cells have no space.

    Example:
        >>> percent(0.001), percent(0.9996)
        ('0.1 %', '99.96 %')
    """
    return share(fraction).replace("%", " %")


def percent_change(fraction: float | None) -> str:
    """Return a change in % as prose writes it.

    Example:
        >>> percent_change(-0.65), percent_change(0.0)
        ('-65 %', '0 %')
    """
    return change(fraction).replace("%", " %")


def listed(names: Sequence[str], most: int | None = None) -> str:
    """Return names as a list; of those that take over `most` characters, the first ones.

    Example:
        >>> names = ["full", "head-only", "batch-norm"]
        >>> listed(names), listed(names, 16), listed(names[:1], 2)
        ('full, head-only and batch-norm', 'full, head-only and 1 more', 'full')
    """
    shown = list(names)
    while most is not None and len(shown) > 1 and len(", ".join(shown)) > most:
        shown.pop()
    left = len(names) - len(shown)
    *first, last = [*shown, f"{left} more"] if left else shown
    return f"{', '.join(first)} and {last}" if first else last


def cut(text: str, most: int) -> str:
    """Return a text of at most `most` characters: its first clauses, or else its first words.

    Clauses end at ";", ":" or "."; they stand for themselves. Words that stop within a clause are
    marked.

    Example:
        >>> cut("no memory was left; give less", 20), cut("no memory was left at all", 20)
        ('no memory was left', 'no memory was (cut)')
    """
    text = " ".join(text.split())
    if len(text) <= most:
        return text
    clauses = text[: [0, *(m.start() for m in _CLAUSE_ENDS.finditer(text, 0, most + 2))][-1]]
    if most / 2 <= len(clauses) <= most:
        return clauses
    words = text[: most - len(CUT) + 1].rpartition(" ")[0] or text[: most - len(CUT)]
    return words.rstrip(",;:. ") + CUT
