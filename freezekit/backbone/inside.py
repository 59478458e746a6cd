"""Which modules without parameters lie inside a frozen part of a model."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from freezekit.backbone.rerun import watched
from freezekit.model.nested import tensors
from freezekit.staging.flow import Flow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import nn

Node = Any  # a node of autograd's graph; torch has no public type for them all


@dataclass(frozen=True)
class Between:
    """Between which parameters the modules without parameters ran, in one observed forward.

    A place is the number of a node in autograd's graph. The nodes themselves are not kept, because
    they hold the activations.

    Attributes:
        calls: For each module that was called, the places at which each of its calls ended.
        reach: For each place, the set of parameters that the value there depends on.
        used_by: For each place, the places that directly depend on it.
        masks: For each parameter, the set of it alone, as an int with one bit.
    """

    calls: Mapping[str, tuple[tuple[int, ...], ...]]
    reach: tuple[int, ...]
    used_by: tuple[tuple[int, ...], ...]
    masks: Mapping[str, int]

    def inside(self, frozen: Iterable[str]) -> frozenset[str]:
        """Return the modules that ran between frozen parameters, in each of their calls.

        What such a module returns depends on frozen parameters alone, and a frozen layer after it
        turns it into something that still depends on frozen parameters alone.

        Args:
            frozen: Names of the frozen parameters.
        """
        mask = sum({self.masks[name] for name in frozen})
        return frozenset(
            name
            for name, calls in self.calls.items()
            if all(any(self._continues(place, mask) for place in places) for places in calls)
        )

    def _continues(self, start: int, frozen: int) -> bool:
        """Tell whether frozen parameters alone lead to a place, and more of them leave it."""
        before = self.reach[start]
        if not before or before & ~frozen:
            return False  # what comes before all parameters may be an augmentation of the input
        stack, seen = [start], {start}
        while stack:
            for place in self.used_by[stack.pop()]:
                reach = self.reach[place]
                if reach & ~frozen or place in seen:
                    continue
                if reach & ~before:
                    return True
                seen.add(place)
                stack.append(place)
        return False


def find_between(
    model: nn.Module,
    example_input: Any,  # Any: whatever the model's forward takes
) -> Between:
    """Observe one forward of a copy of a model.

    Raises:
        StagingError: The model refuses the input, or all usual ones.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.Linear(2, 2), nn.Dropout())
        >>> find_between(net, torch.ones(1, 2)).inside({n for n, _ in net.named_parameters()})
        frozenset({'1'})
    """
    return watched(model, example_input, _Watch).found()


def heeds_mode(module: nn.Module) -> bool:
    """Tell whether eval mode may change what a module does.

    Of torch's own modules the code tells, which reads `training`. All others may do so.

    Example:
        >>> from torch import nn
        >>> heeds_mode(nn.ReLU()), heeds_mode(nn.Dropout())
        (False, True)
    """
    if not type(module).__module__.startswith("torch.nn.modules."):
        return True
    parts = [part for cls in type(module).__mro__[:-2] for part in vars(cls).values()]
    return any("training" in part.__code__.co_names for part in parts if hasattr(part, "__code__"))


class _Watch(AbstractContextManager[Any]):
    """Notes where in the graph the calls of modules end."""

    def __init__(self, copied: nn.Module) -> None:
        self._copied = copied
        self._flow = Flow(copied)
        self._calls: dict[str, list[tuple[Node, ...]]] = {}
        self._ends: list[Node] = []
        self._handles = [
            module.register_forward_hook(self._leave(name, next(module.parameters(), None) is None))
            for name, module in copied.named_modules()
        ]

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _leave(self, name: str, noted: bool) -> Callable[..., Any]:
        def leave(_module: nn.Module, _args: Any, output: Any) -> Any:
            if isinstance(output, Tensor) and output._is_view():
                output = output.clone()  # a view that changes in place gets another node
            places = tuple(t.grad_fn for t in tensors(output) if t.grad_fn is not None)
            self._ends.extend(places)  # of all: the model may detach what it goes on with
            if noted:
                self._calls.setdefault(name, []).append(places)
            return output

        return leave

    def found(self) -> Between:
        """Return what was noted, without the graph."""
        number: dict[Node, int] = {}
        used_by: list[list[int]] = []
        stack = [(node, -1) for node in self._ends]
        while stack:
            node, user = stack.pop()
            if node not in number:
                number[node] = len(number)
                used_by.append([])
                stack += [(n, number[node]) for n, _ in node.next_functions if n is not None]
            if user >= 0:
                used_by[number[node]].append(user)
        return Between(
            {
                name: tuple(tuple(number[node] for node in call) for call in calls)
                for name, calls in self._calls.items()
            },
            tuple(self._flow.behind(node) for node in number),
            tuple(map(tuple, used_by)),
            {name: self._flow.mask(name) for name, _ in self._copied.named_parameters()},
        )
