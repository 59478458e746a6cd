"""Which input a model takes, for every command that runs one; tried where it says nothing."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from freezekit.errors import StagingError
from freezekit.model.nested import tensors
from freezekit.model.sources import split_text
from freezekit.model.tasks import default_image_size, input_shape, own_input, task_of
from freezekit.staging.observing import usual_input

if TYPE_CHECKING:
    from torch import nn


def shape_taken(
    model: nn.Module, text: str, batch_size: int, image_size: int | None = None
) -> tuple[int, ...]:
    """Return the shape of a batch that a model takes.

    A model of a library, and one with an `example_input`, says what it takes. On any other the
    usual channels and sizes are tried in train mode, as where its stages are observed, and the
    first that it takes is the answer. Where it takes none, that is the usual shape: its forward
    will say what is wrong.

    Args:
        model: The model; it is not touched.
        text: Its text, such as "timm:resnet18".
        batch_size: The first dimension.
        image_size: In pixels; None to find it.

    Raises:
        ModelError: The model's `example_input` has another size, or cannot be used.

    Example:
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(2704, 10))
        >>> shape_taken(model, "my.py:build", 8)
        (8, 1, 28, 28)
    """
    source, _ = split_text(text)
    says = source in ("timm", "torchvision") or own_input(model) is not None
    if not says and task_of(model) in ("image", "video"):
        with suppress(StagingError):
            found = usual_input(model, training=True, image_size=image_size)
            return (batch_size, *next(tensors(found)).shape[1:])
    return input_shape(model, batch_size, image_size or default_image_size(model, text))
