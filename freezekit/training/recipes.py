"""A recipe that is checked, and one for the model of a command."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from freezekit.errors import TrainingError
from freezekit.results.lean_text import budget_bytes
from freezekit.training.records import Recipe

if TYPE_CHECKING:
    from freezekit.plugins.registry import Registry

OPTIMIZERS = ("adamw", "sgd", "adam")
AMP = ("bfloat16", "float16")


def checked(recipe: Recipe, registry: Registry) -> Recipe:
    """Return a recipe whose values all can be; with a schedule, its strategy is the first phase's.

    Args:
        recipe: As a user gave it.
        registry: Of strategies and schedules.

    Raises:
        TrainingError: One cannot.
        SpecError: The strategy or the schedule cannot be read.

    Example:
        >>> from freezekit import load_registry
        >>> checked(Recipe("timm:resnet18", "full", epochs=0), load_registry())
        Traceback (most recent call last):
        ...
        freezekit.errors.TrainingError: the recipe cannot be: epochs is 0, expected `int` >= 1
        >>> scheduled = Recipe("timm:resnet18", "", epochs=2, schedule="head-only then full at 1ep")
        >>> checked(scheduled, load_registry()).strategy
        'head-only'
    """
    try:
        recipe = msgspec.convert(msgspec.to_builtins(recipe), Recipe)
    except (msgspec.ValidationError, TypeError) as error:
        raise TrainingError(f"the recipe cannot be: {_in_words(error, recipe)}") from None
    for name, value, choices in (
        ("optimizer", recipe.optimizer, OPTIMIZERS),
        ("amp", recipe.amp, (None, *AMP)),
    ):
        if value not in choices:
            known = ", ".join(map(repr, choices))
            raise TrainingError(
                f"the recipe cannot be: {name} is {value!r}, expected one of {known}"
            )
    if recipe.ema is not None and recipe.ema == 1:
        raise TrainingError("the recipe cannot be: ema is 1, with which an average never moves")
    budget_bytes(recipe.lean)
    if recipe.schedule is None:
        registry.create(recipe.strategy)
        return recipe
    return replace(recipe, strategy=first_spec(recipe.schedule, registry))


def first_spec(schedule: str, registry: Registry) -> str:
    """Return the spec with which a schedule begins, as far as its text says it.

    Else it is "full": the schedule puts its first plan in force before the first step.

    Raises:
        SpecError: The text cannot be read.

    Example:
        >>> from freezekit import load_registry
        >>> first_spec("head-only then full at 1ep", load_registry())
        'head-only'
    """
    plans = registry.schedule(schedule).plans()
    return plans[0] if plans and isinstance(plans[0], str) else "full"


def _in_words(error: Exception, recipe: Recipe) -> str:
    """Return what msgspec says of a value, with the name of the field and the value."""
    said, separator, name = str(error).partition(" - at `$.")
    name = name.rstrip("`")
    if not separator or not hasattr(recipe, name):
        return str(error)
    return f"{name} is {getattr(recipe, name)!r}, {said[0].lower()}{said[1:]}"
