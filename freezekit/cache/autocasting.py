"""Autocast, as it was when a cache was filled."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


class Autocast(NamedTuple):
    """The state of autocast on a type of device.

    Attributes:
        device: Such as "cuda".
        dtype: The lower precision; None where autocast is off.

    Example:
        >>> with torch.autocast("cpu", torch.bfloat16):
        ...     now = Autocast.now(torch.device("cpu"))
        >>> print(now)
        torch.bfloat16
        >>> with now.entered():
        ...     torch.is_autocast_enabled("cpu")
        True
    """

    device: str
    dtype: torch.dtype | None

    def __str__(self) -> str:
        return "off" if self.dtype is None else str(self.dtype)

    @staticmethod
    def now(device: torch.device) -> Autocast:
        """Return the state at this moment."""
        is_on = torch.is_autocast_enabled(device.type)
        return Autocast(device.type, torch.get_autocast_dtype(device.type) if is_on else None)

    def entered(self) -> AbstractContextManager[object]:
        """Return a context in which autocast is in this state."""
        return torch.autocast(self.device, self.dtype, enabled=self.dtype is not None)
