"""How lean is asked for: false, true, or as text with a budget of memory."""

from __future__ import annotations

from freezekit.errors import FreezeError, SizeError
from freezekit.results.sizes import UNITS, read_bytes

PREFIX = "budget:"
_LITTLE = 5e-3  # of a memory, which a rounded budget may leave

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


def lean_name(lean: LeanChoice) -> str:
    """Return what lean is called in the label of a row.

    Example:
        >>> lean_name(True), lean_name("budget:2GiB")
        ('lean', 'budget:2GiB')
    """
    return lean if isinstance(lean, str) else "lean"


def budget_text(count: int) -> str:
    """Return the text of a budget of at most so many bytes, in the largest unit that loses little.

    Example:
        >>> budget_text(3 * 2**30), budget_text(3 * 2**30 - 1), budget_text(1234567)
        ('budget:3GiB', 'budget:3071MiB', 'budget:1205KiB')
    """
    for name in ("GiB", "MiB", "KiB"):
        whole = count // UNITS[name]
        if whole * UNITS[name] >= count * (1 - _LITTLE):
            return f"{PREFIX}{whole}{name}"
    return f"{PREFIX}{count}"
