"""Forward FLOPs of each module, counted on tensors without data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from freezekit.errors import StagingError
from freezekit.model.copies import caches_kept, eagerly, meta_copy, on_device

if TYPE_CHECKING:
    from torch import nn


def forward_flops(model: nn.Module, example_input: Any) -> dict[str, int]:
    """Return the FLOPs of one forward in each module, by dotted name, with inner modules included.

    Matrix products, convolutions and attention are counted, as by `torch.utils.flop_counter`. A
    multiplication and an addition count as two.

    Args:
        model: The model; it is not changed.
        example_input: What its forward takes. A tuple holds several arguments, a dict keywords.

    Raises:
        StagingError: The forward does not run on tensors without data.

    Example:
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> sorted(forward_flops(model, torch.ones(1, 4)).items())
        [('', 96), ('0', 64), ('2', 32)]
    """
    copied = meta_copy(model).eval()
    given = on_device(example_input, torch.device("meta"))
    args, kwargs = ((), given) if isinstance(given, dict) else (given, {})
    args = args if isinstance(args, tuple) else (args,)
    with (
        caches_kept(model),
        eagerly(model),
        torch.no_grad(),
        FlopCounterMode(display=False) as counter,
    ):
        try:
            copied(*args, **kwargs)
        except Exception as error:
            raise StagingError(
                f"the FLOPs of {type(model).__name__} cannot be counted on shapes alone "
                f"({type(error).__name__}: {error}); choose by parameters instead"
            ) from error
    return flops_by_module(counter, copied)


def flops_by_module(counter: FlopCounterMode, model: nn.Module) -> dict[str, int]:
    """Return the counted FLOPs of each module, by dotted name, with inner modules included.

    Args:
        counter: Was active while the model ran.
        model: The model that ran.
    """
    root = type(model).__name__
    counted = {name: sum(by_kind.values()) for name, by_kind in counter.get_flop_counts().items()}
    return {
        name.removeprefix(root).removeprefix("."): flops
        for name, flops in counted.items()
        if name != "Global" and flops
    }
