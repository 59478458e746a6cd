"""The parameters of a model as data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn.parameter import is_lazy

from freezekit.errors import ModelError
from freezekit.model.records import ParameterInfo

if TYPE_CHECKING:
    from torch import nn


def find_parameters(model: nn.Module) -> dict[str, ParameterInfo]:
    """Return every parameter by its dotted name, in registration order, tied ones once.

    Raises:
        ModelError: A lazy module has not been given its shape.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3))
        >>> net[1].bias = net[0].bias
        >>> [(info.name, info.numel, info.aliases) for info in find_parameters(net).values()]
        [('0.weight', 6, ()), ('0.bias', 3, ('1.bias',)), ('1.weight', 9, ())]
    """
    names: dict[int, list[str]] = {}
    tensors: dict[int, nn.Parameter] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if is_lazy(parameter):
            raise ModelError(
                f"parameter {name!r} of {type(model).__name__} has no shape yet (a lazy "
                "module); call the model once on an input first"
            )
        names.setdefault(id(parameter), []).append(name)
        tensors[id(parameter)] = parameter
    return {
        name: ParameterInfo(
            name=name,
            shape=tuple(tensors[key].shape),
            module=name.rpartition(".")[0],
            nbytes=tensors[key].numel() * tensors[key].element_size(),
            aliases=tuple(aliases),
        )
        for key, (name, *aliases) in names.items()
    }
