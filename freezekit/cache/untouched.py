"""A model runs for a while, and is left as it was."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from freezekit.freezing.eval_hold import HeldInEval
from freezekit.verify.isolation import state_preserved

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn


@contextmanager
def in_training(model: nn.Module) -> Iterator[None]:
    """Put a model into the mode of training; restore modes, buffers, gradients and random state."""
    modes = [(module, module.training) for module in model.modules()]
    holds = [hold for m, _ in modes if isinstance(hold := vars(m).get("train"), HeldInEval)]
    wanted = [hold.wanted for hold in holds]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    with state_preserved(model):
        try:
            model.train()
            yield
        finally:
            for module, training in modes:
                module.training = training
            for hold, mode in zip(holds, wanted, strict=True):
                hold.wanted = mode
            with torch.no_grad():
                for buffer, value in buffers:
                    if not torch.equal(buffer, value):
                        buffer.copy_(value)
