"""Observe one forward pass of a copy of a model: which module runs when, on which resolution.

The copy lives on the `meta` device, so that a big model costs neither memory nor time and nothing
about the user's model changes: flags, modes, buffers, hooks, caches, random state.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from freezekit.model.copies import eagerly
from freezekit.model.nested import tensors
from freezekit.staging.extent import Extent, aspect_of, extent_of, smallest_extent
from freezekit.staging.flow import Flow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# Any in this file: what a forward takes and returns is the model's own business.


@dataclass(frozen=True)
class Call:
    """One call of a module, in ticks of a clock that counts calls and uses of parameters.

    Attributes:
        module: Dotted name of the module.
        start: Tick at which it was entered.
        stop: Tick at which it was left.
        input: Layout of its input.
        output: Layout of its output.
        reach: The parameters that its output depends on, as in `Trace.flow`.
        data: Those that its output was made with, under `no_grad` too.
        fed: Those that its input depends on.
        first: Whether it takes the model's own input, or what was made of it without parameters,
            and nothing that depends on parameters.
    """

    module: str
    start: int
    stop: int
    input: Extent
    output: Extent
    reach: int
    data: int
    fed: int
    first: bool


@dataclass(frozen=True)
class Trace:
    """What was observed in one forward pass.

    Attributes:
        calls: Every call of a module, in the order of entering.
        uses: For each parameter and buffer that was used, the ticks of its uses, ascending.
        output: Layout of the model's output; of several that have gradients, the smallest.
        outputs: The parameters that each tensor of the model's output was made with, as in
            `Call.data`, without single numbers such as a loss.
        graded: The parameters that the output depends on, as in `flow`.
        flow: Names the parameters in the sets `Call.reach` and `Call.fed`.
    """

    calls: tuple[Call, ...]
    uses: Mapping[str, tuple[int, ...]]
    output: Extent
    outputs: tuple[int, ...]
    graded: int
    flow: Flow


def trace_forward(model: nn.Module, example_input: Any) -> Trace:
    """Run the model once and return what was observed; exceptions of its forward are not caught.

    Args:
        model: A copy that nobody else needs, from `meta_copy` or `real_copy`; it is run, and all
            its parameters require gradients afterwards.
        example_input: The input, on the model's device: a tuple is taken as several arguments, a
            dict as keyword arguments.

    Example:
        >>> from freezekit.model.copies import meta_copy
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8))
        >>> seen = trace_forward(meta_copy(model), torch.empty(2, 3, 32, 32, device="meta"))
        >>> [(call.module, call.input.grid, call.output.grid) for call in seen.calls]
        [('', (32, 32), (16, 16)), ('0', (32, 32), (16, 16)), ('1', (16, 16), (16, 16))]
        >>> list(seen.uses)
        ['0.weight', '0.bias', '1.running_mean', '1.running_var', '1.weight', '1.bias']
    """
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.is_floating_point() or parameter.is_complex())
    recorder = _Recorder(model, example_input)
    args, kwargs = _arguments(example_input)
    handles = []
    for name, module in model.named_modules():
        enter, leave = recorder.hooks(name)
        handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(module.register_forward_hook(leave))
    try:
        with recorder, torch.enable_grad(), eagerly(model):
            output = getattr(model, "_orig_mod", model)(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    uses = {name: tuple(ticks) for name, ticks in recorder.uses.items()}
    calls = tuple(sorted(recorder.calls, key=lambda call: call.start))
    outputs = tuple(recorder.data(tensor) for tensor in tensors(output) if tensor.ndim)
    made = list(tensors(output))
    # The layout is that of what a loss may take: not of the class numbers beside the scores.
    graded = [tensor for tensor in made if tensor.requires_grad] or made
    extent, flow = smallest_extent(graded, recorder.aspect), recorder.flow
    return Trace(calls, uses, extent, outputs, flow.reach(output), flow)


class _Recorder(TorchFunctionMode):
    """Records each use of a parameter or buffer by a function that returns a tensor."""

    def __init__(self, model: nn.Module, example_input: Any) -> None:
        super().__init__()
        self.aspect = aspect_of(example_input)
        self.flow = Flow(model)
        self.tick = 0
        self.calls: list[Call] = []
        self.uses: dict[str, list[int]] = {}
        self._open: list[tuple[int, Extent, int, bool]] = []
        # What was made of the model's own input without any parameter: a crop, a scaled image.
        self._raw = WeakTensorKeyDictionary(dict.fromkeys(tensors(example_input), True))
        # With which parameters a tensor was made where autograd did not record it.
        self._dark = WeakTensorKeyDictionary()
        named = [*model.named_parameters(), *model.named_buffers()]
        self._names = {id(tensor): name for name, tensor in named}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        # Reading a shape or a dtype is no use of a parameter: no tensor comes of it.
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if made:
            taken = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            for name in filter(None, (self._names.get(id(tensor)) for tensor in taken)):
                self.uses.setdefault(name, []).append(self._now())
            if self._is_raw(taken) and not any(tensor.requires_grad for tensor in taken):
                self._raw.update(dict.fromkeys(made, True))
            self._follow(taken, made)
        return result

    def _follow(self, taken: Sequence[Tensor], made: Sequence[Tensor]) -> None:
        dark = reduce(or_, (self._dark.get(tensor, 0) for tensor in taken), 0)
        for tensor in made:
            lit = 0 if tensor.requires_grad else self.flow.reach(taken)
            if dark | lit:
                self._dark[tensor] = dark | lit

    def data(self, value: Any) -> int:
        """Return the parameters that a value was made with, recorded by autograd or not."""
        return reduce(
            or_, (self._dark.get(tensor, 0) for tensor in tensors(value)), self.flow.reach(value)
        )

    def _is_raw(self, values: Iterable[Tensor]) -> bool:
        return any(tensor in self._raw for tensor in values)

    def _now(self) -> int:
        self.tick += 1
        return self.tick

    def hooks(self, name: str) -> tuple[Any, Any]:
        def enter(_module: nn.Module, args: Any, kwargs: Any) -> None:
            fed = self.flow.reach((args, kwargs))
            first = not self.data((args, kwargs)) and self._is_raw(tensors((args, kwargs)))
            self._open.append((self._now(), extent_of((*args, kwargs), self.aspect), fed, first))

        def leave(_module: nn.Module, _args: Any, output: Any) -> None:
            start, entered, fed, first = self._open.pop()
            left, reach = extent_of(output, self.aspect), self.flow.reach(output)
            stop, data = self._now(), self.data(output)
            self.calls.append(Call(name, start, stop, entered, left, reach, data, fed, first))

        return enter, leave


def _arguments(example_input: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(example_input, dict):
        return (), example_input
    return (example_input if isinstance(example_input, tuple) else (example_input,)), {}
