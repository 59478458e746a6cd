"""Watch one forward of a copy of a model: which module runs when, on which resolution.

The copy lives on the `meta` device, so that a big model costs neither memory nor time and nothing
about the user's model changes: flags, modes, buffers, hooks, caches, random state.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Any in this file: what a forward takes and returns is the model's own business.


@dataclass(frozen=True)
class Call:
    """One call of a module, in ticks of a clock that counts calls and uses of parameters.

    Attributes:
        module: Dotted name of the module.
        start: Tick at which it was entered.
        stop: Tick at which it was left.
        area_in: Positions in its input (pixels, tokens), 1 for a vector; None where it has none.
        area_out: Positions in its output.
        rank_out: Number of dimensions of its output; None where it returns no tensor.
        width_out: Size of the last dimension of its output.
    """

    module: str
    start: int
    stop: int
    area_in: int | None
    area_out: int | None
    rank_out: int | None
    width_out: int | None


@dataclass(frozen=True)
class Trace:
    """What was seen in one forward.

    Attributes:
        calls: Every call of a module, in the order of entering.
        uses: For each parameter and buffer that was used, the ticks of its uses, ascending.
        area_out: Positions in the model's output, as in `Call`.
        width_out: Size of the last dimension of the model's output, such as its classes.
    """

    calls: tuple[Call, ...]
    uses: Mapping[str, tuple[int, ...]]
    area_out: int | None
    width_out: int | None


def meta_copy(model: nn.Module) -> nn.Module:
    """Return a copy of the model whose tensors have shapes and no data, in eval mode.

    The copy runs no hook of the user's; those by which torch itself computes weights (weight norm,
    spectral norm, pruning) stay.

    Args:
        model: Any module; it is not touched.

    Example:
        >>> model = nn.Linear(4, 2)
        >>> meta_copy(model).weight.device, model.weight.device
        (device(type='meta'), device(type='cpu'))
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                data = torch.empty_like(parameter.detach(), device="meta")
                memo[id(parameter)] = nn.Parameter(data, requires_grad=parameter.requires_grad)
        held = [*module._buffers.values(), *vars(module).values()]
        for tensor in held:
            if isinstance(tensor, Tensor) and id(tensor) not in memo:
                memo[id(tensor)] = torch.empty_like(tensor.detach(), device="meta")
    return _quiet(copy.deepcopy(model, memo))


def real_copy(model: nn.Module) -> nn.Module:
    """Return a copy of the model with its data, in eval mode and without the user's hooks."""
    return _quiet(copy.deepcopy(model))


def _quiet(model: nn.Module) -> nn.Module:
    for module in model.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            for key, hook in list(hooks.items()):
                if not type(hook).__module__.startswith("torch.nn.utils"):
                    del hooks[key]
        module._backward_hooks.clear()
        module._backward_pre_hooks.clear()
    return model.eval()


def trace_forward(model: nn.Module, example_input: Any) -> Trace:
    """Run the model once and return what was seen. Whatever its forward raises passes through.

    Args:
        model: A copy that may be run and that nobody else needs, from `meta_copy` or `real_copy`.
        example_input: The input, on the model's device: a tuple is taken as several arguments, a
            dict as keyword arguments.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8))
        >>> seen = trace_forward(meta_copy(model), torch.empty(2, 3, 32, 32, device="meta"))
        >>> [(call.module, call.area_in, call.area_out) for call in seen.calls]
        [('', 1024, 256), ('0', 1024, 256), ('1', 256, 256)]
        >>> list(seen.uses)
        ['0.weight', '0.bias', '1.running_mean', '1.running_var', '1.weight', '1.bias']
    """
    recorder = _Recorder(model, _aspect(example_input))
    args, kwargs = _arguments(example_input)
    handles = []
    for name, module in model.named_modules():
        enter, leave = recorder.hooks(name)
        handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(module.register_forward_hook(leave))
    try:
        with recorder, torch.no_grad():
            # What torch.compile wraps runs as it is: compiling it for one look takes long.
            output = getattr(model, "_orig_mod", model)(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    uses = {name: tuple(ticks) for name, ticks in recorder.uses.items()}
    calls = tuple(sorted(recorder.calls, key=lambda call: call.start))
    area_out, _, width_out = _smallest(output, recorder.aspect)
    return Trace(calls, uses, area_out, width_out)


class _Recorder(TorchFunctionMode):
    """Notes when each parameter and buffer is first handed to a function that returns a tensor."""

    def __init__(self, model: nn.Module, aspect: float) -> None:
        super().__init__()
        self.aspect = aspect
        self.tick = 0
        self.calls: list[Call] = []
        self.uses: dict[str, list[int]] = {}
        self._open: list[tuple[int, int | None]] = []
        named = [*model.named_parameters(), *model.named_buffers()]
        self._names = {id(tensor): name for name, tensor in named}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        # Reading a shape or a dtype is no use of a parameter: nothing flows from it.
        if any(isinstance(leaf, Tensor) for leaf in tree_leaves(result)):
            for leaf in tree_leaves((args, kwargs)):
                name = self._names.get(id(leaf)) if isinstance(leaf, Tensor) else None
                if name is not None:
                    self.uses.setdefault(name, []).append(self._now())
        return result

    def _now(self) -> int:
        self.tick += 1
        return self.tick

    def hooks(self, name: str) -> tuple[Any, Any]:
        def enter(_module: nn.Module, args: Any, kwargs: Any) -> None:
            self._open.append((self._now(), _extent((*args, kwargs), self.aspect)[0]))

        def leave(_module: nn.Module, _args: Any, output: Any) -> None:
            start, area_in = self._open.pop()
            extent = _extent(output, self.aspect)
            self.calls.append(Call(name, start, self._now(), area_in, *extent))

        return enter, leave


def _arguments(example_input: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(example_input, dict):
        return (), example_input
    return (example_input if isinstance(example_input, tuple) else (example_input,)), {}


def on_device(example_input: Any, device: torch.device) -> Any:
    """Return the example input with its tensors copied to a device, zeros where it has no data."""

    def copied(tensor: Tensor) -> Tensor:
        empty = torch.zeros_like(tensor.detach(), device=device)
        return empty if tensor.is_meta else empty.copy_(tensor)

    return tree_map_only(Tensor, copied, example_input)


def _tensors(value: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor))


def _aspect(example_input: Any) -> float:
    for tensor in _tensors(example_input):
        if tensor.ndim >= 3:
            return float(tensor.shape[-2]) / float(tensor.shape[-1])
    return 1.0


_Extent = tuple[int | None, int | None, int | None]


def _extent(value: Any, aspect: float) -> _Extent:
    """Area, rank and width of the first tensor in a value; in a list, of the smallest."""
    if isinstance(value, (tuple, dict)):
        items = value.values() if isinstance(value, dict) else value
        value = next((item for item in items if next(_tensors(item), None) is not None), None)
    return _smallest(value, aspect)


def _smallest(value: Any, aspect: float) -> _Extent:
    found = [
        (_area(tensor.shape, aspect), tensor.ndim, int(tensor.shape[-1]))
        for tensor in _tensors(value)
        if tensor.ndim
    ]
    return min(found, key=lambda extent: extent[0] or math.inf, default=(None, None, None))


def _area(shape: torch.Size, aspect: float) -> int | None:
    """Positions in a tensor: pixels, tokens or 1 for a vector; None where they cannot be told.

    Channels may come first or last: the two neighbours that have the aspect of the input are the
    height and the width, which tells attention maps and heads apart from images. With five
    dimensions the remaining one counts the frames.
    """
    if len(shape) == 2:
        return 1
    if len(shape) == 3:
        return int(shape[1]) if shape[1] != 1 else None  # a class token has no resolution
    if len(shape) not in (4, 5):
        return None
    for last in (len(shape) - 1, len(shape) - 2):
        height, width = shape[last - 1], shape[last]
        if height == width or (height and width and abs(math.log(height / width / aspect)) < 0.3):
            frames = shape[last - 2] if len(shape) == 5 else 1
            return int(height * width * frames)
    return None
