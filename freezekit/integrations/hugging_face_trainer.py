"""What a Trainer tells its callbacks of a training."""

from __future__ import annotations

import sys
from math import ceil
from numbers import Real
from typing import TYPE_CHECKING, Any

from torch import distributed

from freezekit.schedules.reducer import wrappers_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn
    from torch.nn.parallel import DistributedDataParallel


def lengths_of(
    args: Any,  # Any: theirs
    state: Any,
    loader: Any,
) -> tuple[float | None, int | None]:
    """Return the epochs of the training, and the optimizer steps of an epoch; None if not known.

    A training may end within an epoch, as after 1.5: Trainer counts steps.

    Args:
        args: The TrainingArguments.
        state: The TrainerState, in a training.
        loader: The data loader of the training.
    """
    if state.num_train_epochs == sys.maxsize:  # so Trainer says that a loader has no length
        return None, None
    steps_per_epoch = ceil(len(loader) / args.gradient_accumulation_steps)
    return state.max_steps / steps_per_epoch, steps_per_epoch


def wrapper_of(model: nn.Module) -> DistributedDataParallel | None:
    """Return the DistributedDataParallel around a model, which Trainer does not tell callbacks."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return None
    return next(wrappers_of(model), None)


def numbers_in(logs: Mapping[str, object] | None) -> dict[str, float]:
    """Return the numbers that were logged.

    Example:
        >>> numbers_in({"eval_loss": 0.5, "eval_report": "good"})
        {'eval_loss': 0.5}
    """
    return {name: float(value) for name, value in (logs or {}).items() if isinstance(value, Real)}
