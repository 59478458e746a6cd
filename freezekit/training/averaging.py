"""Averaged weights (EMA) of what a training trains, put in force for a validation.

`torch.optim.swa_utils.AveragedModel` copies the whole model. Here what is frozen is neither copied
nor averaged: it is the same in the average. So the average takes the memory of what is trained, and
a cache of the frozen prefix holds for it too.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn


class AveragedWeights:
    """Exponential moving averages of the trained parameters, and of statistics that move.

    What a later phase thaws is included from then on, and what is frozen later stays: its average
    goes on to approach its value.

    Args:
        model: In train mode, frozen.
        decay: Of an average in each step: the average is `decay` parts of before, the rest of now.

    Example:
        >>> from torch import nn
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.zeros_(model.weight)
        >>> averaged = AveragedWeights(model, decay=0.75)
        >>> _ = nn.init.ones_(model.weight)
        >>> averaged.update()
        >>> with averaged.in_force():
        ...     model.weight.item()
        0.25
        >>> model.weight.item()
        1.0
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model = model
        self._average = get_ema_multi_avg_fn(decay)
        self._averages: dict[str, Tensor] = {}
        self.include_trained()

    @property
    def names(self) -> frozenset[str]:
        """Parameters and buffers that have an average."""
        return frozenset(self._averages)

    def include_trained(self) -> None:
        """Include what is trained now; call it after each change of plan."""
        for name in trained_names(self._model):
            if name not in self._averages:
                self._averages[name] = self._now()[name].detach().clone()

    @torch.no_grad()
    def update(self) -> None:
        """Move the averages; call it after each step of the optimizer."""
        now = self._now()
        for is_averaged in (True, False):
            names = [n for n, t in self._averages.items() if t.is_floating_point() == is_averaged]
            averages, values = [self._averages[n] for n in names], [now[n] for n in names]
            if names and is_averaged:
                self._average(averages, values, 1)
            elif names:  # counts
                torch._foreach_copy_(averages, values)

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Let the model have the averages within a context."""
        now = self._now()
        values = {name: now[name].detach().clone() for name in self._averages}
        self.put_in_force()
        try:
            yield
        finally:
            _write(now, values)

    def put_in_force(self) -> None:
        """Let the model have the averages from now on."""
        _write(self._now(), self._averages)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averages by name."""
        return dict(self._averages)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on with averages that `state_dict` returned."""
        now = self._now()
        self._averages = {name: t.to(now[name].device).clone() for name, t in state.items()}

    def _now(self) -> dict[str, Tensor]:
        return {**dict(self._model.named_parameters()), **dict(self._model.named_buffers())}


def trained_names(model: nn.Module) -> list[str]:
    """Return the parameters that are trained now, and the buffers of modules in train mode.

    Args:
        model: In train mode: what is held in eval mode stays there.

    Example:
        >>> from freezekit import freeze_
        >>> from freezekit.testing import MODELS
        >>> model = MODELS["residual"]().train()
        >>> _ = freeze_(model, "head-only")
        >>> trained_names(model)
        ['fc.weight', 'fc.bias']
    """
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    training = {name for name, module in model.named_modules() if module.training}
    buffers = (name for name, _ in model.named_buffers())
    return names + [name for name in buffers if name.rpartition(".")[0] in training]


@torch.no_grad()
def _write(tensors: dict[str, Tensor], values: dict[str, Tensor]) -> None:
    for name, value in values.items():
        tensors[name].copy_(value)
