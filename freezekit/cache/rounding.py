"""What a stored type of less precision does to features, and to what the model makes of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from freezekit.cache.calls import outputs_of
from freezekit.model.nested import tensors
from freezekit.model.random_state import RandomState, cuda_devices

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit.cache.encoding import Encoding
    from freezekit.cache.prefix import Prefix

# Any in this file: a model may take and return anything.


class Rounding(NamedTuple):
    """How far numbers move, relative to the largest: of features, and of outputs of the model."""

    feature_error: float
    output_error: float


def rounding(
    model: nn.Module,
    run: Callable[[Any], Any],
    prefix: Prefix,
    encoding: Encoding,
    batch: Any,
    samples: int,
) -> Rounding:
    """Return what the encoding of rows changes in a forward of training."""
    if encoding.is_exact:
        return Rounding(0.0, 0.0)
    state = RandomState.now(cuda_devices(model))

    def outputs(rows: Tensor) -> list[Tensor]:
        state.restore()  # the same dropout in both
        out = prefix.run(model, partial(run, batch), rows)
        return [t for t in tensors(out) if t.is_floating_point()]

    with torch.no_grad():
        exact = prefix.rows(outputs_of(model, partial(run, batch), prefix.cut), samples)
        rounded = encoding.decode(encoding.encode(exact))
        pairs = zip(outputs(exact), outputs(rounded), strict=True)
        return Rounding(
            apart(exact, rounded), max((apart(one, other) for one, other in pairs), default=0.0)
        )


def apart(one: Tensor, other: Tensor) -> float:
    """Return the largest difference, relative to the largest number.

    Example:
        >>> apart(torch.tensor([1.0, -4.0]), torch.tensor([2.0, -4.0]))
        0.25
    """
    largest = one.abs().max().item() or 1.0
    return float((one - other).abs().max().item() / largest)
