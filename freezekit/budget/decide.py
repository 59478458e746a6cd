"""Decides what a model computes again, by predictions on fake tensors."""

from __future__ import annotations

import sys
import warnings
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Any

import torch

from freezekit.budget.choose import choose, least_limit
from freezekit.budget.describe import computed_again
from freezekit.budget.fake_step import FakeStep
from freezekit.budget.observe import observe
from freezekit.budget.records import Choice
from freezekit.errors import FreezekitWarning
from freezekit.results.sizes import size_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from freezekit.budget.records import Predicted

ROUNDS = 8
"""Predictions with a choice. A choice is made of estimates. Its peak is then predicted, and the
difference corrects the limit of the next choice. Most models need two."""

CLOSE = 0.02
"""The part of the budget that a choice may leave free without another round."""

SILENT_SECONDS = 2.0

_INNER = str(Path(__file__).parents[1]), str(Path(torch.__file__).parent)


def decide(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], budget_bytes: int
) -> Choice | None:
    """Return what is computed again so that a step fits into a budget.

    Args:
        model: Lean, and not changed.
        args: What its forward takes.
        kwargs: Likewise.
        budget_bytes: For the whole step, as `FakeStep` counts it.

    Returns:
        None where the model cannot run on fake tensors, or has no parameter.

    Warns:
        FreezekitWarning: The step does not fit even so, or cannot be predicted.
    """
    with _said_if_long():
        try:
            step = FakeStep(model, args, kwargs)
            choice = _decide(step, budget_bytes)
        except Exception as error:  # noqa: BLE001  # a model's forward may raise anything
            said = f"{type(error).__name__}: {error}".strip().splitlines()[0]
            _warn(
                f"the memory that a step of this {type(model).__name__} takes cannot be predicted "
                f"({said}): nothing is computed again, and the step is lean without a budget"
            )
            return None
    if not choice.fits:
        names = choice.step.names
        how = f"when {computed_again(names)}" if names else "and computing again does not help"
        _warn(
            f"a step of this {type(model).__name__} does not fit into the budget of "
            f"{size_text(budget_bytes)}: it takes {size_text(choice.step.peak_bytes)} at least, "
            f"{how}; give a smaller batch, a larger budget, or freeze more"
        )
    return choice


def _decide(step: FakeStep, budget_bytes: int) -> Choice:
    plain = step.predict()
    if plain.peak_bytes <= budget_bytes:
        return Choice(plain, plain, budget_bytes)
    observed = observe(step)
    tried: dict[tuple[str, ...], Predicted] = {(): plain}
    limit = budget_bytes
    for _ in range(ROUNDS):
        names = choose(observed, limit)
        if names is None:
            limit = least_limit(observed, plain.peak_bytes)
            names = choose(observed, limit)
        if names is None or names in tried:
            break
        found = tried[names] = step.predict(names)
        room = budget_bytes - found.peak_bytes
        if 0 <= room <= CLOSE * budget_bytes:
            break
        limit += room
    fitting = [each for each in tried.values() if each.peak_bytes <= budget_bytes]
    if fitting:
        best = min(fitting, key=lambda each: (each.flops, len(each.names), each.names))
    else:
        best = min(tried.values(), key=lambda each: (each.peak_bytes, each.flops, each.names))
    return Choice(best, plain, budget_bytes)


def _warn(text: str) -> None:
    """Warn of a forward, at the line of the user's code that called it."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_INNER):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, FreezekitWarning, stacklevel=level)


@contextmanager
def _said_if_long() -> Iterator[None]:
    """Say what takes time, if it takes more than two seconds."""
    text = "freezekit: choosing what to compute again within the memory budget\n"
    timer = Timer(SILENT_SECONDS, lambda: sys.stderr.write(text))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
