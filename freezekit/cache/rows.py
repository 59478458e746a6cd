"""The rows of a cache, by their index, and rows in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch

if TYPE_CHECKING:
    from torch import Tensor

UNIT_BYTES = 64 * 2**20
UNIT_BATCHES = 32
"""A unit of rows is computed and written as one: at most this large, and this many batches. A fill
that is interrupted loses at most one unit's work, and several processes share the units."""


def unit_rows(row_bytes: int, batch_size: int) -> int:
    """Return how many rows a unit has: whole batches, so that none is filled with repetitions.

    Example:
        >>> unit_rows(row_bytes=2**20, batch_size=10)
        60
    """
    batches = UNIT_BYTES // (row_bytes * batch_size)
    return batch_size * min(max(1, batches), UNIT_BATCHES)


def units_of(count: int, rows: int) -> list[range]:
    """Return the units of a number of rows.

    Example:
        >>> units_of(5, 2)
        [range(0, 2), range(2, 4), range(4, 5)]
    """
    return [range(start, min(start + rows, count)) for start in range(0, count, rows)]


class Rows(Protocol):
    """Rows of numbers with what is kept of each sample, by their index."""

    is_shared: bool
    """Whether what one process writes is read by all others."""

    def missing(self) -> list[range]:
        """Return the units that are not filled."""

    def write(self, unit: range, rows: Tensor, kept: list[Any]) -> None:
        """Write the rows of a whole unit."""

    def read(self, index: int) -> tuple[Tensor, Any]:
        """Return a row, and what is kept of its sample."""

    def remove(self) -> None:
        """Remove what is written: the plan has moved to another boundary."""


class RowsInMemory:
    """Rows in one tensor."""

    is_shared = False

    def __init__(self, count: int, width: int, dtype: torch.dtype, rows_in_unit: int) -> None:
        self.rows: Tensor = torch.empty(count, width, dtype=dtype)
        self.kept: list[Any] = [None] * count  # Any: whatever the data set gives
        self._units = units_of(count, rows_in_unit)

    def missing(self) -> list[range]:
        """Return the units that are not filled."""
        return self._units

    def write(self, unit: range, rows: Tensor, kept: list[Any]) -> None:
        """Write the rows of a whole unit."""
        self.rows[unit.start : unit.stop] = rows
        self.kept[unit.start : unit.stop] = kept

    def read(self, index: int) -> tuple[Tensor, Any]:
        """Return a row, and what is kept of its sample."""
        return self.rows[index], self.kept[index]

    def remove(self) -> None:
        """Leave it to the garbage collector."""
