"""What the Trainer of a Lightning training knows of it."""

from __future__ import annotations

from math import ceil, inf
from typing import Any

from torch.nn.parallel import DistributedDataParallel


def schedulers_of(trainer: Any) -> list[Any]:  # Any: of either package; of torch, timm and others
    """Return the learning-rate schedulers."""
    return [config.scheduler for config in trainer.lr_scheduler_configs]


def wrapper_of(trainer: Any) -> DistributedDataParallel | None:  # Any: as above
    """Return the DistributedDataParallel around the LightningModule, if there is one."""
    wrapper = trainer.strategy.model
    return wrapper if isinstance(wrapper, DistributedDataParallel) else None


def has_steps_that_change(trainer: Any) -> bool:  # Any: as above
    """Tell whether a callback changes the number of optimizer steps from epoch to epoch."""
    names = (cls.__name__ for each in trainer.callbacks for cls in type(each).__mro__)
    return "GradientAccumulationScheduler" in names


def known_epochs(trainer: Any) -> int | None:  # Any: as above
    """Return the epochs of a training whose steps are not known; None where steps may end it."""
    epochs = trainer.max_epochs
    return epochs if epochs is not None and epochs > 0 and trainer.max_steps <= 0 else None


def lengths_of(trainer: Any) -> tuple[float | None, int | None]:  # Any: as above
    """Return the epochs of the training, and the optimizer steps of an epoch; None if not known.

    With `max_steps`, a training may end within an epoch, as after 1.5.
    """
    batches, epochs = trainer.num_training_batches, trainer.max_epochs
    epochs = epochs if epochs is not None and epochs > 0 else None
    if batches == inf:
        return epochs, None
    steps = ceil(batches / trainer.accumulate_grad_batches)
    if trainer.max_steps > 0:
        by_steps = trainer.max_steps / steps
        epochs = by_steps if epochs is None else min(epochs, by_steps)
    return epochs, steps
