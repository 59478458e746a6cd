"""Biases, recognised by their role: what a layer adds to each of its channels."""

from __future__ import annotations

import inspect
import re
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, get_testing_overrides

from freezekit.backbone.rerun import watched
from freezekit.errors import FreezekitError
from freezekit.model.nested import tensors
from freezekit.staging.flow import Flow

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from freezekit.model.records import Norm, ParameterInfo

_BIAS_ARGUMENT = re.compile(r"(?:.*_)?bias(?:_[kv])?|b_[ih]h")
"""Arguments of torch's functions that are biases: bias, in_proj_bias, bias_k, b_ih."""

_WEIGHT_ARGUMENT = re.compile(r"weight|.*_weight|w_[ih]h")

_RECURRENT = (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu)
"""Functions that receive their matrices and biases in one list."""

_ADDITIONS = frozenset(("add", "add_", "__add__", "__radd__", "__iadd__"))
_ADDED_FIRST = frozenset(("addcmul", "addmm", "addbmm", "baddbmm", "addmv"))
"""Functions that add their first argument to a product."""


def find_biases(
    model: nn.Module,
    parameters: Mapping[str, ParameterInfo],
    norms: Iterable[Norm],
    example_input: Any,  # Any: whatever the model's forward takes
) -> tuple[str, ...]:
    """Return the parameters that are biases, in registration order.

    A parameter is a bias if its module calls it so, if a function of torch receives it as bias in
    one observed forward, or if a layer adds it, one number for each channel, to its output. A bias
    that is computed from parameters of its own module (a parametrization, pruning, a factor) makes
    biases of these. If the forward cannot be observed, the names alone decide.

    Args:
        model: Any module; it is not changed.
        parameters: Its parameters by dotted name.
        norms: Its normalisation layers.
        example_input: What its forward takes; None for the usual input.

    Example:
        >>> from freezekit import Backbone
        >>> class Mine(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.a, self.b = nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.zeros(4))
        ...     def forward(self, x):
        ...         return nn.functional.linear(x, self.a, self.b)
        >>> net = nn.Sequential(Mine(), nn.LSTM(4, 2))
        >>> Backbone(net, torch.ones(2, 3, 4)).biases
        ('0.b', '1.bias_ih_l0', '1.bias_hh_l0')
    """
    modules = dict(model.named_modules())
    shifts = {norm.name for norm in norms}
    found = {
        name
        for name, info in parameters.items()
        if any(_named_so(modules, info, alias, shifts) for alias in (name, *info.aliases))
    }
    if all(_of_torch(modules, name) for name in parameters.keys() - found):
        return tuple(name for name in parameters if name in found)
    with suppress(FreezekitError):  # without an observed forward, the names alone decide
        found |= watched(model, example_input, lambda copied: _Roles(copied, parameters)).biases
    return tuple(name for name in parameters if name in found)


def _of_torch(modules: Mapping[str, nn.Module], name: str) -> bool:
    """Tell whether a layer of torch itself owns a parameter: these name their biases so."""
    owner, _ = _owner_and_role(modules, name)
    return type(modules.get(owner)).__module__.startswith("torch.nn.")


def _named_so(
    modules: Mapping[str, nn.Module], info: ParameterInfo, name: str, norms: Iterable[str]
) -> bool:
    """Tell whether a module calls one of its parameters a bias.

    "bias" and "q_bias" are names of biases. "bias_ih_l0" and "bias_k" are too, if they hold one
    number for each channel, which a table of position biases does not.
    """
    owner, role = _owner_and_role(modules, name)
    if role == "bias" or role.endswith("_bias"):
        return True
    return (role.startswith("bias_") and _per_channel(info)) or (role == "beta" and owner in norms)


def _owner_and_role(modules: Mapping[str, nn.Module], name: str) -> tuple[str, str]:
    """Return the module that uses a parameter, and what that module calls it.

    `torch.nn.utils` keeps the parameters of a reparametrized tensor elsewhere or under other names:
    "fc.parametrizations.bias.original0" and "fc.bias_orig" are for "bias" of "fc".

    Example:
        >>> _owner_and_role({}, "fc.parametrizations.bias.original0")
        ('fc', 'bias')
    """
    around, dot, inside = name.rpartition("parametrizations.")
    if dot and (not around or around.endswith(".")):
        return around.rstrip("."), inside.partition(".")[0]
    owner, _, role = name.rpartition(".")
    base, _, ending = role.rpartition("_")
    if ending in ("orig", "g", "v") and base and hasattr(modules.get(owner), base):
        role = base
    return owner, role


def _per_channel(info: ParameterInfo) -> bool:
    return sum(size > 1 for size in info.shape) <= 1


class _Roles(TorchFunctionMode):
    """Records which parameters functions receive as biases, and which ones layers add."""

    def __init__(self, copied: nn.Module, parameters: Mapping[str, ParameterInfo]) -> None:
        super().__init__()
        self._flow = Flow(copied)
        self._parameters = parameters
        self._modules = dict(copied.named_modules())
        self._as_bias: set[str] = set()
        self._as_weight: set[str] = set()

    @property
    def biases(self) -> set[str]:
        """The parameters with the role of a bias and no other."""
        return self._as_bias - self._as_weight

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for role, value in _roles(func, args, kwargs):
            names = self._names(value)
            if role == "weight":
                self._as_weight.update(names)
            elif len({_owner_and_role(self._modules, name)[0] for name in names}) == 1:
                self._as_bias.update(names)
        self._as_bias.update(self._added(func, args, kwargs))
        return func(*args, **kwargs)

    def _names(self, value: Any) -> tuple[str, ...]:
        return self._flow.names(self._flow.reach(value))

    def _added(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[str]:
        """Yield a parameter that a layer adds to something larger."""
        name = getattr(func, "__name__", "")
        operands = [v for v in (*args, *kwargs.values()) if isinstance(v, Tensor)]
        if name in _ADDED_FIRST:
            candidates = operands[:1]
        elif name in _ADDITIONS and len(operands) == 2:
            candidates = operands
        else:
            return
        largest = max(operand.numel() for operand in operands)
        for operand in candidates:
            names = self._names(operand)
            if len(names) != 1 or not 1 < operand.numel() < largest:
                continue
            info = self._parameters[names[0]]
            if info.numel == operand.numel() and _per_channel(info) and self._of_a_layer(info.name):
                yield info.name

    def _of_a_layer(self, name: str) -> bool:
        """Tell whether the owner is a layer: a token or a table of a larger module is no bias."""
        owner, _ = _owner_and_role(self._modules, name)
        children = self._modules[owner].named_children()
        return all(
            child == "parametrizations" or next(module.parameters(), None) is None
            for child, module in children
        )


def _roles(
    func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """Yield what a function of torch receives as bias or weight, with the role."""
    if func in _RECURRENT:
        listed = [v for v in (*args, *kwargs.values()) if isinstance(v, (list, tuple))]
        for tensor in tensors(listed):
            yield ("bias" if tensor.ndim == 1 else "weight"), tensor
        return
    for name, value in (*zip(_argument_names(func), args, strict=False), *kwargs.items()):
        if isinstance(value, Tensor) and _BIAS_ARGUMENT.fullmatch(name):
            yield "bias", value
        elif isinstance(value, Tensor) and _WEIGHT_ARGUMENT.fullmatch(name):
            yield "weight", value


@cache
def _argument_names(func: Any) -> tuple[str, ...]:
    """Return the names of the arguments of a function of torch; () if torch does not tell them."""
    told = get_testing_overrides().get(func)
    return () if told is None else tuple(inspect.signature(told).parameters)
