"""Forward FLOPs of each layer, counted by what each operator depends on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from freezekit.model.flops import counted_on_a_copy, flop_counter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import nn
    from torch.utils.flop_counter import FlopCounterMode


def layer_flops(
    model: nn.Module,
    example_input: Any,  # Any: whatever the model's forward takes
    layers: Sequence[Iterable[str]],
) -> tuple[int, ...]:
    """Return the FLOPs of one forward in each layer; together they are those of the model.

    An operator belongs to the last layer on whose parameters its inputs depend, whichever module
    runs it. So the first layers together have the operators that depend on no later parameter.
    These need no gradient if the first layers are frozen. What depends on no parameter belongs to
    the first layer. Operators are counted as by `forward_flops`.

    Args:
        model: The model; it is not changed.
        example_input: What its forward takes. A tuple holds several arguments, a dict keywords.
        layers: Names of the parameters of each layer, in the order of use.

    Raises:
        StagingError: The forward refuses the input.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> layers = [("0.weight", "0.bias"), ("2.weight", "2.bias")]
        >>> layer_flops(model, torch.ones(1, 4), layers)
        (64, 32)
    """

    def counted(copied: nn.Module, run: Callable[[], object]) -> tuple[int, ...]:
        with flop_counter(copied) as counter, _ByLayer(copied, layers, counter) as found:
            run()
        return tuple(found.flops)

    return counted_on_a_copy(model, example_input, counted)


class _ByLayer(TorchDispatchMode):
    """Notes for each memory the last layer on which its values depend.

    Memory is followed, and not autograd's graph, because parts of a model run without gradients. A
    weak reference keeps no values, but no other memory gets the same address.
    """

    supports_higher_order_operators = True

    def __init__(
        self, copied: nn.Module, layers: Sequence[Iterable[str]], counter: FlopCounterMode
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own
        self.flops = [0] * len(layers)
        self._counter = counter
        self._layers: dict[StorageWeakRef, int] = {}
        self._latest = 0
        layer_of = {name: at for at, names in enumerate(layers) for name in names}
        for name, parameter in copied.named_parameters():
            self._note(parameter, layer_of.get(name, 0))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # Any: torch's own protocol
        kwargs = kwargs or {}
        layer = max((self._layer(t) for t in _tensors((args, kwargs))), default=0)
        before = self._counter.get_total_flops()
        result = func(*args, **kwargs)
        self.flops[layer] += self._counter.get_total_flops() - before
        self._latest = max(self._latest, layer)
        for tensor in _tensors(result):
            self._note(tensor, layer)
        return result

    def _layer(self, tensor: Tensor) -> int:
        memory = _memory(tensor)
        return self._latest if memory is None else self._layers.get(memory, 0)

    def _note(self, tensor: Tensor, layer: int) -> None:
        memory = _memory(tensor)
        if memory is not None:  # an operator may also write into a part of it
            self._layers[memory] = max(layer, self._layers.get(memory, 0))


def _tensors(values: Any) -> Iterable[Tensor]:  # Any: arguments of any operator
    return (leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor))


def _memory(tensor: Tensor) -> StorageWeakRef | None:
    """Return what tensors that share memory have in common; None for one without, as if sparse."""
    try:
        return StorageWeakRef(tensor.untyped_storage())
    except (NotImplementedError, RuntimeError):
        return None
