"""The peak of memory of a candidate, predicted before anything of it is trained: a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from freezekit.bench.static import predicted_memory
from freezekit.errors import FreezekitError
from freezekit.plugins.registry import load_registry
from freezekit.results.records import Workload
from freezekit.results.variant import Variant
from freezekit.training.records import Recipe, Trial

if TYPE_CHECKING:
    from collections.abc import Callable


def run(argument: Any, report: Callable[[Any], object]) -> Any:  # noqa: ARG001  # Any: JSON data
    """Return a `Trial` without epochs, with the predicted peak.

    A strategy that refuses the model is told as the error of its trial, before it is trained.
    """
    recipe = msgspec.convert(argument["recipe"], Recipe)
    workload = Workload(
        recipe.model,
        batch_size=recipe.batch_size,
        image_size=recipe.image_size,
        num_classes=argument["classes"],
        device=recipe.device,
        amp=recipe.amp,
        optimizer=recipe.optimizer,
    )
    registry = load_registry(tuple(argument["block"]))
    trial = Trial(recipe)
    try:
        found = predicted_memory(workload, Variant(recipe.strategy, recipe.lean), registry)
        trial = Trial(recipe, peak_bytes=found.peak_bytes)
    except FreezekitError as error:
        trial = Trial(recipe, "error", " ".join(str(error).split()))
    return msgspec.to_builtins(trial)
