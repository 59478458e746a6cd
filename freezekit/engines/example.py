"""Functions of tasks that need nothing: for the examples of engines, and to time engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit.engines.records import JSON


def spread(numbers: JSON, report: Callable[[JSON], None]) -> JSON:  # noqa: ARG001  # an interface
    """Return the largest of some numbers less the smallest.

    Example:
        >>> spread([3, 9, 5], print)
        6
    """
    return max(numbers) - min(numbers)
