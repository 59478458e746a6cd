"""A model with values as after training, and sessions of its copies, stock or lean."""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from benchmarks.zoo.models import build_small, example
from freezekit import freeze_
from freezekit.bench.workload import LEARNING_RATE, OPTIMIZERS, WEIGHT_DECAY, Session
from freezekit.model.loss import loss_function
from freezekit.model.tasks import task_of
from freezekit.results.records import Workload

if TYPE_CHECKING:
    from collections.abc import Iterator

LEAST_VARIANCE = 0.05
"""Least running variance. Two small images may leave a channel constant. With a smaller variance,
the norm would multiply that channel by hundreds as soon as it varies."""


@dataclass(frozen=True)
class Subject:
    """One model with values, and a batch for it.

    Attributes:
        text: The text by which `freezekit.load_backbone` loads it.
        model: Only copies of it are trained.
        inputs: Arguments of its forward, Any: detection takes lists and dictionaries.
        image_size: Of a square image, in pixels.
    """

    text: str
    model: nn.Module
    inputs: tuple[Any, ...]
    image_size: int


@lru_cache(maxsize=1)  # the strategies of one model run one after another
def subject(text: str) -> Subject:
    """Build the model with a batch of two of its smallest images."""
    model, inputs, size = build_small(text)
    live_in(model, inputs)
    return Subject(text, model, inputs, size)


def session(of: Subject, strategy: str, *, lean: bool) -> Session:
    """Freeze a copy of the model and prepare its training step.

    Raises:
        FreezekitError: The strategy refuses the model.
    """
    model, inputs = copy.deepcopy((of.model, of.inputs))
    model.train()
    frozen = freeze_(model, strategy, lean=lean, example_input=example(model, inputs))
    groups = frozen.param_groups(LEARNING_RATE, WEIGHT_DECAY)
    workload = Workload(of.text, batch_size=2, image_size=of.image_size)
    optimizer = OPTIMIZERS[workload.optimizer](groups, lr=LEARNING_RATE)
    loss = loss_function(
        task_of(of.model)
    )  # of the original: lean may hide the signature of the copy
    return Session(workload, model, frozen, optimizer, inputs, loss)


def seed(number: int) -> None:
    """Set every random state that a model may draw from."""
    torch.manual_seed(number)
    random.seed(number)
    np.random.seed(number)


def live_in(model: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Give a model weights and statistics as after training.

    A new model would hide errors. A norm whose weight is still 0 passes no gradient on. A norm with
    fixed statistics of 0 and 1 lets activations grow without limit.

    Args:
        model: Changed in place.
        inputs: The batch that gives the statistics. Any: whatever the model takes.
    """
    seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point() and bool((parameter == parameter.flatten()[0]).all()):
                parameter += torch.empty_like(parameter).uniform_(0.05, 0.15)
        momenta = [(norm, norm.momentum) for norm in _norms(model)]
        for norm, _ in momenta:
            norm.momentum = 1.0  # the statistics of this very batch
        model.train()(*copy.deepcopy(inputs))
        for norm, momentum in momenta:
            norm.momentum = momentum
            assert norm.running_var is not None
            norm.running_var.clamp_(min=LEAST_VARIANCE)


def _norms(model: nn.Module) -> Iterator[_NormBase]:
    for module in model.modules():
        if isinstance(module, _NormBase) and module.running_var is not None:
            yield module
