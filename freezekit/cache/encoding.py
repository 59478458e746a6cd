"""How the numbers of a row are stored: as they are, as shorter floats, or as bytes in blocks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from freezekit.errors import CacheError

BLOCK = 64
"""Numbers that share a scale in int8. A smaller block takes more room, a larger one rounds more."""
SCALE_BYTES = 4


@dataclass(frozen=True)
class Encoding:
    """How rows are stored.

    In int8, each block of 64 numbers has a scale in float32, so that the largest number of the
    block is 127. The scales follow the numbers in the row, as four bytes each.

    Attributes:
        stored: The type in which rows are stored: that of the model, float16, bfloat16 or int8.
        exact: The type of the model's numbers.
        numbers: Numbers in a row.

    Example:
        >>> encoding = Encoding(torch.int8, torch.float32, numbers=3)
        >>> encoding.width
        68
        >>> encoding.decode(encoding.encode(torch.tensor([[0.5, -1.0, 0.0]])))
        tensor([[ 0.5039, -1.0000,  0.0000]])
    """

    stored: torch.dtype
    exact: torch.dtype
    numbers: int

    @property
    def width(self) -> int:
        """Elements of a stored row."""
        return self._blocks * (BLOCK + SCALE_BYTES) if self.stored == torch.int8 else self.numbers

    @property
    def is_exact(self) -> bool:
        """Whether a stored row has all bits of the numbers."""
        return torch.promote_types(self.stored, self.exact) == self.stored

    @property
    def row_bytes(self) -> int:
        """Bytes of a stored row."""
        return self.width * self.stored.itemsize

    def encode(self, rows: Tensor) -> Tensor:
        """Return rows of shape (samples, numbers) as they are stored: (samples, width).

        Raises:
            CacheError: The stored type cannot hold them.
        """
        found = self._in_blocks(rows) if self.stored == torch.int8 else rows.to(self.stored)
        is_lost = not self.is_exact and not found.isfinite().all() and rows.isfinite().all()
        if is_lost:
            raise CacheError(
                f"{self.stored} cannot hold features as large as {rows.abs().max().item():.3g}; "
                "take dtype=torch.bfloat16, or leave dtype unsaid"
            )
        return found

    def decode(self, rows: Tensor) -> Tensor:
        """Return stored rows as (samples, numbers) in the type of the model."""
        if self.stored != torch.int8:
            return rows.to(self.exact)
        values, scales = rows.split([self._blocks * BLOCK, self._blocks * SCALE_BYTES], 1)
        blocks = values.unflatten(1, (self._blocks, BLOCK)).float()
        found: Tensor = blocks * scales.contiguous().view(torch.float32)[..., None]
        return found.flatten(1)[:, : self.numbers].to(self.exact)

    @property
    def _blocks(self) -> int:
        return -(-self.numbers // BLOCK)

    def _in_blocks(self, rows: Tensor) -> Tensor:
        if not rows.isfinite().all():
            raise CacheError(
                "int8 cannot hold features that are NaN or infinite; leave dtype unsaid"
            )
        padded = functional.pad(rows.float(), (0, self._blocks * BLOCK - self.numbers))
        blocks = padded.unflatten(1, (self._blocks, BLOCK))
        scales = blocks.abs().amax(2) / 127
        values = (blocks / scales.clamp(min=1e-38)[..., None]).round().to(torch.int8)
        return torch.cat([values.flatten(1), scales.contiguous().view(torch.int8)], 1)


def encoding_of(dtype: torch.dtype | None, exact: torch.dtype, numbers: int) -> Encoding:
    """Return the encoding that a user asked for.

    Raises:
        CacheError: Rows are not kept in that type.
    """
    known = torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int8
    if dtype is not None and dtype not in known:
        raise CacheError(
            f"dtype is {dtype!r}, expected one of {', '.join(map(str, known))}, or None for the "
            "type of the model"
        )
    return Encoding(dtype or exact, exact, numbers)
