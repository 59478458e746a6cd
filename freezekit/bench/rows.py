"""A training step on features of a cache in place of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only
from torch.utils.data import Dataset, default_collate

from freezekit.bench.workload import autocast, in_channels_last
from freezekit.budget import choosing_nothing
from freezekit.cache.beforehand import Forwards
from freezekit.cache.calls import Call, outputs_of
from freezekit.errors import CacheError
from freezekit.memory.fake import needs_values

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from freezekit.bench.workload import Session
    from freezekit.freezing.plan import FreezePlan

# Any in this file: what a model takes.


AT_ONCE = 32
"""Samples at a time in filling. A training on features may take far larger batches than one on
images, which the prefix could not take at once."""


class _Samples(Dataset[tuple[Tensor, ...]]):
    """A batch of a model's inputs, sample by sample."""

    def __init__(self, inputs: tuple[Tensor, ...]) -> None:
        self.inputs = inputs

    def __len__(self) -> int:
        return len(self.inputs[0])

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return tuple(tensor[index] for tensor in self.inputs)


@dataclass(frozen=True)
class PrefixForward:
    """What filling a cache runs for each batch: the forward of the frozen prefix.

    Attributes:
        session: Its steps take features.
        images: A batch of what its model takes without a cache.
        cut: The calls whose outputs are kept.
    """

    session: Session
    images: tuple[Any, ...]
    cut: tuple[Call, ...]

    def __call__(self) -> None:
        """Compute a batch, as filling does: with gradients enabled, which chooses some kernels."""
        model = self.session.model
        with torch.enable_grad(), autocast(self.session.workload), choosing_nothing():
            outputs_of(model, lambda: model(*self.images), self.cut)


def take_rows(session: Session) -> PrefixForward:
    """Fill a cache with the batch of a session, and let its steps take the features.

    Raises:
        CacheError: The prefix cannot be cached.
    """
    images = _checked(session.inputs)

    def call(model: nn.Module, batch: Any) -> Any:
        given = tuple(batch)
        return model(*(in_channels_last(given) if session.workload.channels_last else given))

    size = min(len(images[0]), AT_ONCE)
    with autocast(session.workload):
        cached = session.frozen.cache(_Samples(images), size, image=0, call=call)
    takes = vars(session.model)["forward"]
    takes.width = takes.encoding.width  # nobody else's features come here: no zeros tell them apart
    rows = default_collate([cached[index] for index in range(len(cached))])
    rows[0] = rows[0][:, : takes.width].contiguous()
    session.inputs = tree_map_only(Tensor, lambda t: t.to(images[0].device), tuple(rows))
    return PrefixForward(session, images, tuple(map(_call, cached.filled.boundary)))


def skip_prefix(session: Session, plan: FreezePlan, batch_of: Callable[[int], Any]) -> None:
    """Let the steps of a session on fake tensors take features; called within their mode.

    Args:
        session: With the plan applied.
        plan: Of its model.
        batch_of: Makes inputs of a number of samples.

    Raises:
        CacheError: The prefix cannot be cached, or it cannot be known without real numbers.
    """
    model, images = session.model, _checked(session.inputs)
    try:
        with autocast(session.workload):
            prefix = Forwards(model, lambda given: model(*given), batch_of).expected(plan).prefix
    except RuntimeError as error:
        if not needs_values(error):
            raise
        raise CacheError(
            f"what can be cached is not known without real numbers: {error}"
        ) from error
    inner = model.forward
    shape, dtype = images[0].shape[1:], images[0].dtype

    def forward(rows: Tensor, *rest: Any) -> Any:
        stub = torch.full((), float("nan"), dtype=dtype, device=rows.device)
        stub = stub.expand(len(rows), *shape)
        return prefix.run(model, lambda: inner(stub, *rest), rows)

    vars(model)["forward"] = forward
    rows = images[0].new_empty(len(images[0]), prefix.numbers, dtype=prefix.dtype)
    session.inputs = (rows, *images[1:])


def with_rows(inputs: tuple[Any, ...], rows: Tensor) -> tuple[Any, ...]:
    """Return inputs on fake tensors with rows in place of the images, as many and like others."""
    return (rows.new_empty(len(inputs[0]), rows.shape[1]), *inputs[1:])


def _checked(inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """Return inputs that can be divided into samples.

    Raises:
        CacheError: They cannot.
    """
    if all(isinstance(t, Tensor) and t.dim() and len(t) == len(inputs[0]) for t in inputs):
        return inputs
    raise CacheError(
        "the model takes more than batches of tensors, and bench caches no other; `frozen.cache` "
        "takes any data set"
    )


def _call(text: str) -> Call:
    """Return the call of which this is the text.

    Example:
        >>> _call(str(Call("norm", 1))), _call("pool")
        (Call(module='norm', number=1), Call(module='pool', number=0))
    """
    module, _, number = text.partition(" (call ")
    return Call(module, int(number.rstrip(")")) - 1 if number else 0)
