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
