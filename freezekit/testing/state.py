"""The state that a strategy must not change: of a model, and of the process."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn


def state_of(model: nn.Module) -> dict[str, object]:
    """Return all state that a strategy must not change, by a name for messages."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {
        "requires_grad": {n: p.requires_grad for n, p in model.named_parameters()},
        "gradients": {n: id(p.grad) for n, p in model.named_parameters()},
        "train mode": {n: m.training for n, m in model.named_modules()},
        "weights or buffers": {n: t.detach().cpu().numpy().tobytes() for n, t in tensors.items()},
        "parameters or buffers": {n: id(t) for n, t in tensors.items()},
        "modules": {n: (id(m), type(m)) for n, m in model.named_modules()},
        "attributes": {n: _plain(vars(m)) for n, m in model.named_modules()},
        "hooks": [
            *({k: len(v) for k, v in vars(m).items() if "hooks" in k} for m in model.modules()),
            *(len(p._backward_hooks or ()) for p in model.parameters()),
        ],
        "random state": torch.get_rng_state().numpy().tobytes(),
        "random state of Python": random.getstate(),
        "random state of NumPy": repr(numpy.random.get_state(legacy=False)),
        "settings of torch": (
            torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
            torch.is_grad_enabled(),
            torch.get_default_dtype(),
        ),
    }


def _plain(attributes: Mapping[str, object]) -> dict[str, str]:
    kinds = (bool, int, float, str, tuple, list, set, type(None))
    return {
        name: repr(value)
        for name, value in attributes.items()
        if isinstance(value, kinds) and "hooks" not in name and name != "training"
    }
