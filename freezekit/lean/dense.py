"""Dense tensors: their elements lie in memory without gaps or overlaps, in any dimension order."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def is_dense(tensor: Tensor) -> bool:
    """Tell whether the elements lie in memory without gaps or overlaps, in any dimension order.

    Example:
        >>> import torch
        >>> image = torch.zeros(2, 3, 4, 4)
        >>> is_dense(image.permute(0, 2, 3, 1)), is_dense(image[:, :2])
        (True, False)
    """
    if tensor.is_contiguous():
        return True
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def flat_in_memory(tensor: Tensor) -> Tensor:
    """Return a dense tensor's elements in memory order, as a view of shape (numel,)."""
    return tensor.as_strided((tensor.numel(),), (1,))
