"""What the copies of a verification are run on."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from freezekit.errors import StagingError
from freezekit.model.nested import tensors
from freezekit.model.tasks import default_image_size, input_shape, make_inputs, task_of
from freezekit.staging.observing import usual_input

if TYPE_CHECKING:
    from torch import nn

    from freezekit.backbone.view import Backbone

BATCH_SIZE = 2


def example_or(backbone: Backbone, inputs: Any) -> Any:  # Any: whatever the model takes
    """Return the inputs, or what a view was observed on if there are none."""
    if inputs is None and not any(t.is_meta for t in tensors(backbone.example_input)):
        return backbone.example_input
    return inputs


def arguments_of(
    model: nn.Module, inputs: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:  # Any: whatever the model takes
    """Return the arguments and keyword arguments of a forward; random ones for None."""
    if inputs is None:
        inputs = _default_inputs(model)
    if isinstance(inputs, dict):
        return (), inputs
    return inputs if isinstance(inputs, tuple) else (inputs,), {}


def _default_inputs(model: nn.Module) -> Any:  # Any: whatever the model takes
    """Return random inputs of the model's own size, or of a common size that it takes."""
    if task_of(model) == "image":
        with suppress(StagingError):  # the training will report what is wrong
            return usual_input(model, training=True)
    return make_inputs(model, input_shape(model, BATCH_SIZE, default_image_size(model)))
