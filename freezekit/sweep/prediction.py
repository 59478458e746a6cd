"""The peak of memory of a candidate, predicted before anything of it is trained: a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from freezekit.errors import FreezekitError
from freezekit.plugins.registering import load_registry
from freezekit.training.peak import predicted_peak
from freezekit.training.records import Recipe, Trial

if TYPE_CHECKING:
    from collections.abc import Callable


def run(argument: Any, report: Callable[[Any], object]) -> Any:  # noqa: ARG001  # Any: JSON data
    """Return a `Trial` without epochs, with the predicted peak, or a note why there is none.

    Args:
        argument: "recipe"; "classes" and "train_samples" of the images; "block".
        report: Is not called.
    """
    recipe = msgspec.convert(argument["recipe"], Recipe)
    steps = max(1, argument["train_samples"] // recipe.batch_size)
    registry = load_registry(tuple(argument["block"]))
    try:
        peak, note = predicted_peak(recipe, argument["classes"], steps, registry)
    except FreezekitError as error:  # its trials tell it again, as their own
        peak, note = None, f"the peak of memory cannot be predicted: {error}"
    trial = Trial(recipe, peak_bytes=peak, notes=(note,) if note else ())
    return msgspec.to_builtins(trial)
