"""How lean is asked for: false, true, or as text with a budget of memory."""

from __future__ import annotations

from freezekit.errors import FreezeError, SizeError
from freezekit.results.sizes import read_bytes, size_text

PREFIX = "budget:"

LeanChoice = bool | str
"""False, True, or text such as "budget:2GiB"."""


def budget_bytes(lean: LeanChoice) -> int | None:
    """Return the memory that a step may take; None where `lean` sets no budget.

    Raises:
        FreezeError: `lean` is neither a bool nor text that begins with "budget:".
        SizeError: What follows "budget:" is no size.

    Example:
        >>> budget_bytes("budget:2GiB"), budget_bytes(True)
        (2147483648, None)
        >>> budget_bytes("on")
        Traceback (most recent call last):
        ...
        freezekit.errors.FreezeError: lean='on' is neither True, False nor a budget such as ...
    """
    if isinstance(lean, bool):
        return None
    if not isinstance(lean, str) or not lean.startswith(PREFIX):
        raise FreezeError(
            f"lean={lean!r} is neither True, False nor a budget such as 'budget:2GiB'"
        )
    try:
        return read_bytes(lean.removeprefix(PREFIX))
    except SizeError as error:
        raise SizeError(f"lean={lean!r}: {error}") from None


def budget_text(count: int) -> str:
    """Return the text that asks for a budget of so many bytes.

    Example:
        >>> budget_text(3 * 2**29), budget_bytes(budget_text(1234567))
        ('budget:1.5GiB', 1234567)
    """
    text = f"{PREFIX}{size_text(count).replace(' ', '')}"
    return text if budget_bytes(text) == count else f"{PREFIX}{count}"
