"""How the parameters of a model arrived: their flags before the first `freeze_`.

A saved model contains `Arrivals`. Its name and the name of this module must stay.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from weakref import ref

if TYPE_CHECKING:
    from torch import nn


class Arrivals:
    """The flag of each parameter, with the parameter and the module that owned it.

    Code that puts adapters on a frozen model, prunes it or reparametrizes it gives parameters other
    names, or puts other parameters in their place. So a name alone does not find them again.

    The references are weak: what leaves the model is not kept alive. Copies refer to their own.
    """

    def __init__(self, model: nn.Module) -> None:
        self._entries = [
            (ref(parameter), ref(module), _dotted(owner, name), parameter.requires_grad)
            for owner, module in model.named_modules()
            for name, parameter in module.named_parameters(recurse=False)
        ]

    def flags(self, model: nn.Module, by_name: dict[str, bool]) -> dict[str, bool]:
        """Return the flags by the present names, without parameters that are new.

        Args:
            model: The model as it is now.
            by_name: The flags by the names of then.

        Example:
            >>> from torch import nn
            >>> from torch.nn.utils.parametrizations import weight_norm
            >>> model = nn.Sequential(nn.Linear(1, 1, bias=False))
            >>> arrivals = Arrivals(model)
            >>> _ = weight_norm(model[0])
            >>> list(arrivals.flags(model, {"0.weight": True}))
            ['0.parametrizations.weight.original0', '0.parametrizations.weight.original1']
        """
        present = {id(parameter) for parameter in model.parameters()}
        by_identity: dict[int, bool] = {}
        by_place: dict[tuple[int, str], bool] = {}
        by_name = dict(by_name)
        for parameter_ref, module_ref, name, trainable in self._entries:
            parameter, module = parameter_ref(), module_ref()
            if parameter is not None and id(parameter) in present:
                by_identity[id(parameter)] = trainable
                by_name.pop(name, None)  # another parameter of this name is a new one
            elif module is not None:
                by_place[id(module), name.rpartition(".")[2]] = trainable
        modules = dict(model.named_modules())
        found = {}
        for name, parameter in model.named_parameters():
            if id(parameter) in by_identity:
                found[name] = by_identity[id(parameter)]
                continue
            owner, local = _origin(name)
            place = id(modules.get(owner)), local
            if place in by_place:
                found[name] = by_place[place]
            elif _dotted(owner, local) in by_name:
                found[name] = by_name[_dotted(owner, local)]
        return found

    def names(self, model: nn.Module) -> dict[str, str]:
        """Return the name of then by the present name, for parameters that are the same objects."""
        then: dict[int, str] = {}
        for parameter_ref, _, name, _ in self._entries:
            if (parameter := parameter_ref()) is not None:
                then.setdefault(id(parameter), name)  # the first name of a tied one
        return {n: then[id(p)] for n, p in model.named_parameters() if id(p) in then}

    def __getstate__(self) -> list[tuple[Any, ...]]:  # Any: the protocol of pickle
        """Return what is alive: weak references cannot be pickled, and must not be copied."""
        pairs = [(p(), m(), name, flag) for p, m, name, flag in self._entries]
        return [entry for entry in pairs if entry[0] is not None and entry[1] is not None]

    def __setstate__(self, state: list[tuple[Any, ...]]) -> None:  # Any: the protocol of pickle
        self._entries = [(ref(p), ref(m), name, flag) for p, m, name, flag in state]


def _dotted(owner: str, name: str) -> str:
    return f"{owner}.{name}" if owner else name


_PARAMETRIZED = re.compile(r"(?:^|\.)parametrizations\.([^.]+)\.original\d*$")
_NORMALISED = re.compile(r"_(?:g|v|orig)$")
"""Ends of the names that `weight_norm`, `spectral_norm` and pruning of `torch.nn.utils` give."""


def _origin(name: str) -> tuple[str, str]:
    """Return the module and the name that a parameter had before it was reparametrized."""
    if inner := _PARAMETRIZED.search(name):
        return name[: inner.start()], inner[1]
    owner, _, local = name.rpartition(".")
    return owner, _NORMALISED.sub("", local)
