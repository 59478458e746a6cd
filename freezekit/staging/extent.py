"""What a tensor is laid out on: pixels, frames, tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from freezekit.model.nested import tensors

if TYPE_CHECKING:
    from collections.abc import Sequence

VECTOR_RANK = 2
"""Dimensions of a vector per sample: (batch, channels)."""

TOKENS_RANK = 3
"""Dimensions of a row of tokens: (batch, tokens, channels)."""

ASPECT_TOLERANCE = 0.3
"""How far the logarithm of height / width may lie from that of the input for an image.

Rounding changes the aspect of small maps: 100x170 pixels become 4x6 in `resnet18`, 0.13 away. With
0, no fall of its resolution is seen, and each block is a stage. Attention maps must not count as
images: with 1, `sam2_hiera_tiny` loses a boundary. The values seen next to 0.3 are 0.25
(`vit_tiny_r_s16_p8_224`) and 0.39 (`nest_tiny`).
"""

# Any in this file: what a forward takes and returns is the model's own business.


@dataclass(frozen=True)
class Extent:
    """The layout of a tensor without its batch and channels.

    Attributes:
        grid: (height, width), (frames, height, width), (tokens,), () for a vector; None where it
            cannot be told.
        rank: Number of dimensions, batch and channels included; None where there is no tensor.
        width: Size of the last dimension; None where there is no tensor.
    """

    grid: tuple[int, ...] | None = None
    rank: int | None = None
    width: int | None = None

    @property
    def area(self) -> int | None:
        """Positions in one frame: pixels or tokens, 1 for a vector.

        Frames do not count: a change of resolution is one of height and width.
        """
        return None if self.grid is None else math.prod(self.grid[-2:])


def layout_text(grid: tuple[int, ...] | None) -> str:
    """Return the layout of a tensor in words.

    Example:
        >>> [layout_text(grid) for grid in ((56, 56), (8, 28, 28), (197,), (), None)]
        ['56x56', '8x28x28', '197 tokens', 'vector', '-']
    """
    if grid is None:
        return "-"
    if len(grid) == 1:
        return f"{grid[0]} tokens"
    return "x".join(map(str, grid)) or "vector"


def aspect_of(example_input: Any) -> float:
    """Return height / width of the first image in an input; 1 where there is none."""
    for tensor in tensors(example_input):
        if tensor.ndim >= 3:
            return float(tensor.shape[-2]) / float(tensor.shape[-1])
    return 1.0


def extent_of(value: Any, aspect: float) -> Extent:
    """Return the extent of the first tensor in a value; in a list, of the smallest.

    Example:
        >>> import torch
        >>> extent_of((torch.ones(2, 8, 7, 7), torch.ones(2, 5)), aspect=1.0).grid
        (7, 7)
    """
    if isinstance(value, (tuple, dict)):
        items = value.values() if isinstance(value, dict) else value
        value = next((item for item in items if next(tensors(item), None) is not None), None)
    return smallest_extent(value, aspect)


def smallest_extent(value: Any, aspect: float) -> Extent:
    """Return the extent of the smallest tensor in a value."""
    found = [
        Extent(_grid(tensor.shape, aspect), tensor.ndim, int(tensor.shape[-1]))
        for tensor in tensors(value)
        if tensor.ndim
    ]
    return min(found, key=lambda extent: extent.area or math.inf, default=Extent())


def _grid(shape: Sequence[int], aspect: float) -> tuple[int, ...] | None:
    """Return the layout of a tensor of this shape.

    Channels may come first or last: the two neighbours that have the aspect of the input are the
    height and the width, which tells attention maps and heads apart from images. With five
    dimensions the one before them counts the frames.
    """
    if len(shape) <= VECTOR_RANK:  # a vector, or one number, for each sample
        return ()
    if len(shape) == TOKENS_RANK:
        return (int(shape[1]),) if shape[1] != 1 else None  # a class token has no resolution
    if len(shape) not in (4, 5):
        return None
    for last in (len(shape) - 1, len(shape) - 2):
        height, width = int(shape[last - 1]), int(shape[last])
        if height == width or (
            height and width and abs(math.log(height / width / aspect)) < ASPECT_TOLERANCE
        ):
            frames = (int(shape[last - 2]),) if len(shape) == 5 else ()
            return (*frames, height, width)
    return None
