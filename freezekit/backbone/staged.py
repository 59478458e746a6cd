"""Can this model be staged, on which input, and if not, why not?

Three questions come up wherever stages are needed. Two are answered here. The third, whether the
model runs on shapes alone or needs real numbers, is answered in `staging.observing`, which tries
shapes first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from freezekit.errors import FreezekitError, StagingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit.backbone.view import Backbone
    from freezekit.model.records import Stage

T = TypeVar("T")


def on_own_size_or(inputs: Any, ask: Callable[[Any], T]) -> T:  # Any: whatever the model takes
    """Return the answer for the model's own image size, or else for the given inputs.

    The model's own image size comes first: there its resolutions differ the most, and the stages
    begin where the resolution falls. A model that takes no such image is observed on the inputs.

    Args:
        inputs: What the model's forward takes.
        ask: From an example input, None for the model's own size, to the answer.

    Raises:
        StagingError: The model cannot be staged on either.

    Example:
        >>> def ask(example):
        ...     if example is None:
        ...         raise StagingError("refuses images of 224 pixels")
        ...     return f"staged on {example}"
        >>> on_own_size_or("48 pixels", ask)
        'staged on 48 pixels'
    """
    try:
        return ask(None)
    except StagingError:
        return ask(inputs)


def stages_or_reason(backbone: Backbone) -> tuple[tuple[Stage, ...], None] | tuple[None, str]:
    """Return the stages and None, or None and the reason why there are none.

    Example:
        >>> from torch import nn
        >>> from freezekit import Backbone
        >>> stages, reason = stages_or_reason(Backbone(nn.Flatten()))
        >>> stages, reason
        (None, 'Flatten has no parameters: nothing to stage or freeze')
    """
    try:
        return tuple(backbone.stages), None
    except FreezekitError as error:
        return None, str(error)
