"""Run a copy of a model once more, to watch what its forward does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from freezekit.errors import StagingError
from freezekit.model.copies import eagerly, meta_copy, on_device, real_copy
from freezekit.model.outside import caches_kept
from freezekit.staging.observing import usual_input

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from torch import nn

W = TypeVar("W", bound="AbstractContextManager[Any]")


def watched(
    model: nn.Module,
    example_input: Any,  # Any: whatever the model's forward takes
    watch: Callable[[nn.Module], W],
) -> W:
    """Run a copy of a model in eval mode with gradients, and return what watched it.

    The copy is on `meta`. If its forward needs data there, a copy with data is run.

    Args:
        model: The model; it is not changed.
        example_input: What its forward takes. A tuple holds several arguments, a dict keywords.
            None stands for the usual input that it takes.
        watch: Makes the context manager that is active while the given copy runs. All parameters
            of the copy require gradients, and so does its input.

    Raises:
        StagingError: The model refuses the input, or all usual ones.

    Example:
        >>> from torch.utils.flop_counter import FlopCounterMode
        >>> model = torch.nn.Linear(4, 8)
        >>> counter = watched(model, torch.ones(1, 4), lambda _: FlopCounterMode(display=False))
        >>> counter.get_total_flops()
        64
    """
    given = usual_input(model, training=False) if example_input is None else example_input
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    real = torch.device("cpu") if device.type == "meta" else device
    forked = torch.random.fork_rng(devices=[real] if real.type == "cuda" else [])
    with forked, caches_kept(model):
        try:
            return _run(meta_copy(model), on_device(given, torch.device("meta")), watch)
        except Exception:  # noqa: BLE001  # a model's forward may raise anything
            pass
        try:
            return _run(real_copy(model), on_device(given, real), watch)
        except Exception as error:
            raise StagingError(
                f"{type(model).__name__} cannot be observed on its example input "
                f"({type(error).__name__}: {error}); give an example_input that it takes"
            ) from error


def _run(copied: nn.Module, given: Any, watch: Callable[[nn.Module], W]) -> W:
    for parameter in copied.parameters():
        parameter.requires_grad_(parameter.is_floating_point() or parameter.is_complex())
    with torch.enable_grad(), eagerly(copied):
        # Copies, because a forward may change its input in place, which torch refuses of leaves.
        given = tree_map_only(Tensor, _with_gradient, given)
        args, kwargs = ((), given) if isinstance(given, dict) else (given, {})
        args = args if isinstance(args, tuple) else (args,)
        with watch(copied) as watching:
            getattr(copied, "_orig_mod", copied)(*args, **kwargs)
    result: W = watching
    return result


def _with_gradient(tensor: Tensor) -> Tensor:
    floats = tensor.is_floating_point() or tensor.is_complex()
    return tensor.requires_grad_().clone() if floats else tensor
