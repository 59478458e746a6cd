"""Training steps of one strategy: lean or stock, on real or fake tensors."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
import torch

from freezekit.backbone.staged import on_own_size_or
from freezekit.bench.workload import (
    LEARNING_RATE,
    OPTIMIZERS,
    WEIGHT_DECAY,
    Session,
    load,
    with_shape,
)
from freezekit.handle.freeze import freeze_
from freezekit.memory.fake import make_fake
from freezekit.model.loss import loss_function
from freezekit.model.tasks import make_inputs, task_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from freezekit.results.records import Workload

    Change = Callable[[nn.Module], None]


@contextmanager
def fake_session(
    workload: Workload, spec: str, *, lean: bool = False, change: Change | None = None
) -> Iterator[Session]:
    """Make a session of fake tensors, whose mode is active in the block.

    Raises:
        FreezekitError: The strategy refuses the model.
    """
    model = load(msgspec.structs.replace(workload, pretrained=False), "meta")
    with make_fake(model, workload.device):
        yield _prepare(workload, model, spec, lean=lean, change=change)


def real_session(
    workload: Workload, spec: str, *, lean: bool = False, change: Change | None = None
) -> Session:
    """Make a session of real tensors.

    Raises:
        FreezekitError: The strategy refuses the model.
    """
    torch.manual_seed(workload.seed)
    model = load(workload, workload.device)
    return _prepare(workload, model, spec, lean=lean, change=change)


def _prepare(
    workload: Workload, model: nn.Module, spec: str, *, lean: bool, change: Change | None
) -> Session:
    workload = with_shape(workload, model)
    assert workload.input_shape is not None
    inputs = make_inputs(model, workload.input_shape)
    model.train()
    frozen = on_own_size_or(
        inputs, lambda example: freeze_(model, spec, example_input=example, lean=lean)
    )
    if change:
        change(model)
    optimizer = OPTIMIZERS[workload.optimizer](
        frozen.param_groups(LEARNING_RATE, WEIGHT_DECAY), lr=LEARNING_RATE
    )
    loss = loss_function(task_of(model), workload.loss)
    return Session(workload, model, frozen, optimizer, inputs, loss)
