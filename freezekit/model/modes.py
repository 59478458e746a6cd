"""Train and eval mode."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import nn

M = TypeVar("M", bound="nn.Module")


def in_mode(model: M, *, training: bool) -> M:
    """Put a model into train or eval mode, and return it.

    A `train` of the model's own may return nothing, as those of many detection models do.

    Example:
        >>> from torch import nn
        >>> class Quiet(nn.Linear):
        ...     def train(self, mode=True):
        ...         super().train(mode)
        >>> in_mode(Quiet(1, 1), training=False).training
        False
    """
    model.train(training)
    return model
