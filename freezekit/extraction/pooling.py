"""The mean of features over their positions: the tokens, or height and width."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.errors import CacheError

if TYPE_CHECKING:
    from torch import Tensor


def mean_over_positions(features: Tensor) -> Tensor:
    """Return features of (samples, ...) as (samples, channels).

    Example:
        >>> import torch
        >>> [tuple(mean_over_positions(torch.rand(2, *shape)).shape)
        ...  for shape in ((5, 7, 7), (7, 7, 5), (9, 5), (5,))]
        [(2, 5), (2, 5), (2, 5), (2, 5)]
    """
    positions = [dim + 1 for dim in _positions(tuple(features.shape[1:]))]
    return features.mean(positions) if positions else features


def pooled_shape(shape: tuple[int, ...], whose: str) -> tuple[int, ...]:
    """Return the shape of one sample after `mean_over_positions`.

    Raises:
        CacheError: Its positions are not known.
    """
    if len(shape) > 3:
        raise CacheError(
            f"the output of {whose} has the shape {shape} for a sample, and its positions are not "
            "known; leave out the pooling"
        )
    return tuple(size for dim, size in enumerate(shape) if dim not in _positions(shape))


def _positions(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the dimensions of (tokens, channels) or of a map, that has channels first or last."""
    if len(shape) == 3:
        channels_last = shape[0] == shape[1] != shape[2]
        return (0, 1) if channels_last else (1, 2)
    return (0,) if len(shape) == 2 else ()
