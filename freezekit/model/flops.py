"""Forward FLOPs of each module, counted on tensors without data where that works."""

from __future__ import annotations

from contextlib import contextmanager
from math import prod
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.utils.flop_counter import FlopCounterMode

from freezekit.errors import StagingError
from freezekit.model.copies import eagerly, meta_copy, on_device, real_copy
from freezekit.model.outside import caches_kept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import nn
    from torch.utils.hooks import RemovableHandle

C = TypeVar("C")


def forward_flops(model: nn.Module, example_input: Any) -> dict[str, int]:
    """Return the FLOPs of one forward in each module, by dotted name, with inner modules included.

    Matrix products, convolutions, attention and recurrent layers are counted, as by
    `torch.utils.flop_counter` on shapes alone. A multiplication and an addition count as two. A
    forward that needs values is counted on a copy with data.

    Args:
        model: The model; it is not changed.
        example_input: What its forward takes. A tuple holds several arguments, a dict keywords.

    Raises:
        StagingError: The forward refuses the input.

    Example:
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> sorted(forward_flops(model, torch.ones(1, 4)).items())
        [('', 96), ('0', 64), ('2', 32)]
    """

    def counted(copied: nn.Module, run: Callable[[], object]) -> dict[str, int]:
        with flop_counter(copied) as counter:
            run()
        return flops_by_module(counter, copied)

    return counted_on_a_copy(model, example_input, counted)


def counted_on_a_copy(
    model: nn.Module, example_input: Any, count: Callable[[nn.Module, Callable[[], object]], C]
) -> C:
    """Return what `count` makes of a copy of the model and of a function that runs it once.

    The copy is on `meta`. If its forward needs values there, a copy with data is counted. None of
    its parameters requires a gradient.

    Raises:
        StagingError: The forward refuses the input.

    Example:
        >>> from torch import nn
        >>> counted_on_a_copy(nn.Linear(4, 2), torch.ones(1, 4), lambda _, run: run().shape)
        torch.Size([1, 2])
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    real = torch.device("cpu") if device.type == "meta" else device
    forked = torch.random.fork_rng(devices=[real] if real.type == "cuda" else [])
    with forked, caches_kept(model), eagerly(model), torch.no_grad():
        try:
            return _counted(meta_copy(model), on_device(example_input, torch.device("meta")), count)
        except Exception:  # noqa: BLE001  # a model's forward may raise anything
            pass
        try:
            with _products_alone():
                return _counted(real_copy(model), on_device(example_input, real), count)
        except Exception as error:
            raise StagingError(
                f"the FLOPs of {type(model).__name__} cannot be counted on its example input "
                f"({type(error).__name__}: {error}); choose by parameters instead"
            ) from error


def _counted(
    copied: nn.Module, given: Any, count: Callable[[nn.Module, Callable[[], object]], C]
) -> C:
    args, kwargs = ((), given) if isinstance(given, dict) else (given, {})
    args = args if isinstance(args, tuple) else (args,)
    copied.requires_grad_(False)
    return count(copied, lambda: copied(*args, **kwargs))


def flop_counter(model: nn.Module) -> FlopCounterMode:
    """Return torch's counter, for a forward of this model; it counts recurrent layers too."""
    counter = FlopCounterMode(display=False, custom_mapping=dict(RECURRENT))
    counter.mod_tracker = _Running(model)  # type: ignore[assignment]  # it has what is used
    return counter


class _Running:
    """Tells the counter which modules run.

    torch's own tracker also follows the backward pass. It fails on a module that is given a view,
    made without gradients, of a tensor that requires one. These hooks are global, as hooks of a
    module would turn off the fast path of a transformer.
    """

    def __init__(self, model: nn.Module) -> None:
        self._names = {module: name for name, module in model.named_modules()}
        self._running: list[str] = []
        self._handles: list[RemovableHandle] = []

    @property
    def parents(self) -> set[str]:
        """Names of the modules that run, and the key of the total."""
        return {"Global", *self._running}

    def __enter__(self) -> None:
        self._handles = [
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave, always_call=True),
        ]

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _enter(self, module: nn.Module, _args: object) -> None:
        if module in self._names:
            self._running.append(self._names[module])

    def _leave(self, module: nn.Module, *_: object) -> None:
        if self._names.get(module) in self._running:  # not if a hook of it failed before
            self._running.remove(self._names[module])


@contextmanager
def _products_alone() -> Iterator[None]:
    """Run attention as matrix products: torch does not count the fused kernels of every device."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _lstm_layer(sequence: list[int], *rest: Any, **_: object) -> int:
    """Count one layer of an LSTM, in one direction, which oneDNN runs in one operator."""
    weights: list[list[int]] = [rest[0], rest[1]]
    return 2 * prod(sequence[:-1]) * sum(map(prod, weights))


def _recurrent(sequence: list[int], weights: list[list[int]], *_: Any, **__: object) -> int:
    """Count all layers of a recurrent module, which cuDNN runs in one operator."""
    return 2 * prod(sequence[:-1]) * sum(prod(weight) for weight in weights if len(weight) == 2)


def _twice(forward: Callable[..., int]) -> Callable[..., int]:
    """Count a backward: the gradients of input and weight cost as much as the forward each."""

    def backward(*args: Any, **kwargs: Any) -> int:
        return 2 * forward(*args, **kwargs)

    return backward


RECURRENT: Mapping[Any, Callable[..., int]] = {
    torch.ops.aten.mkldnn_rnn_layer: _lstm_layer,
    torch.ops.aten.mkldnn_rnn_layer_backward: _twice(_lstm_layer),
    torch.ops.aten._cudnn_rnn: _recurrent,
    torch.ops.aten._cudnn_rnn_backward: _twice(_recurrent),
}
"""FLOPs of the fused operators of LSTM, GRU and RNN, which torch's counter leaves out. What the
formulas give is what it counts where the same module runs as matrix products."""


def flops_by_module(counter: FlopCounterMode, model: nn.Module) -> dict[str, int]:
    """Return the counted FLOPs of each module, by dotted name, with inner modules included.

    A module that is not called itself, such as `nn.ModuleList`, has those of the modules in it.

    Args:
        counter: The `flop_counter` of the model; it was active while the model ran.
        model: The model that ran.
    """
    counted = {name: sum(by_kind.values()) for name, by_kind in counter.get_flop_counts().items()}
    found = {name: flops for name, flops in counted.items() if name != "Global" and flops}
    for name, module in reversed(list(model.named_modules())):  # inner modules come first
        if name and name not in found:  # such as a list, which no forward calls
            children = (f"{name}.{child}" for child, _ in module.named_children())
            if inside := sum(found.get(child, 0) for child in children):
                found[name] = inside
    return found
