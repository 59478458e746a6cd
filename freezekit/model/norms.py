"""Normalisation layers, recognised by their type."""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from freezekit.model.records import Norm, NormKind

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

_BASES: tuple[tuple[type[nn.Module], NormKind], ...] = (
    (_BatchNorm, "batch"),
    (_InstanceNorm, "instance"),
    (nn.GroupNorm, "group"),
    (nn.LayerNorm, "layer"),
    (nn.RMSNorm, "rms"),
)
_WORDS: tuple[tuple[str, NormKind], ...] = (
    ("evonorm", "evo"),
    ("filterresponsenorm", "filter response"),
    ("batchnorm", "batch"),
    ("instancenorm", "instance"),
    ("groupnorm", "group"),
    ("rmsnorm", "rms"),
    ("layernorm", "layer"),
)


def find_norms(model: nn.Module, parameters: Container[str]) -> tuple[Norm, ...]:
    """Return every normalisation layer inside a model, in registration order, shared ones once.

    Args:
        model: Any module. A norm that is itself the model does not count.
        parameters: Dotted names of the model's parameters; a tied one is listed under its first
            name.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.GroupNorm(2, 4))
        >>> known = dict(model.named_parameters())
        >>> [(norm.name, norm.kind, norm.statistics) for norm in find_norms(model, known)]
        [('1', 'batch', ('1.running_mean', '1.running_var', '1.num_batches_tracked')),
         ('2', 'group', ())]
    """
    return tuple(
        Norm(
            name=name,
            kind=kind,
            type_name=type(module).__name__,
            parameters=tuple(n for n in _own_parameters(name, module) if n in parameters),
            statistics=statistics_of(module, name),
        )
        for name, module in model.named_modules()
        if name and (kind := norm_kind(module)) is not None
    )


def norm_kind(module: nn.Module) -> NormKind | None:
    """Return the kind of a normalisation layer, None for any other module.

    A class that derives from one of torch's norms has the kind of that norm, whatever its name.
    Other classes share no base class. There the name of the class decides, or the name of a class
    from which it derives; but the module must be a layer: no module inside it, such as an
    activation, has tensors of its own. A layer that keeps a running mean and a running variance is
    a batch norm under any name.

    Example:
        >>> from timm.layers import BatchNormAct2d, EvoNorm2dB0, RmsNormAct2d
        >>> [norm_kind(make(8)) for make in (BatchNormAct2d, EvoNorm2dB0, RmsNormAct2d, nn.PReLU)]
        ['batch', 'evo', 'rms', None]
    """
    for base, kind in _BASES:
        if isinstance(module, base):
            return kind
    if not _is_layer(module):
        return None
    names = [_normalised_name(cls.__name__) for cls in _classes(module)]
    for name in names:
        for word, kind in _WORDS:
            if word in name:
                return kind
    running = {name for name in statistics_of(module) if name in ("running_mean", "running_var")}
    if len(running) == 2:
        return "batch"
    return "other" if running or any("norm" in name for name in names) else None


def statistics_of(module: nn.Module, prefix: str = "") -> tuple[str, ...]:
    """Return the names of the buffers in which a module itself keeps running statistics.

    By torch's convention these are named `running_...`, and `num_batches_tracked`. Buffers that a
    forward never updates, such as weight and bias of torchvision's FrozenBatchNorm2d, do not count.

    Args:
        module: Any module.
        prefix: Its dotted name.

    Example:
        >>> from torchvision.ops import FrozenBatchNorm2d
        >>> statistics_of(FrozenBatchNorm2d(4), "bn1")
        ('bn1.running_mean', 'bn1.running_var')
    """
    return tuple(
        f"{prefix}.{name}" if prefix else name
        for name, _ in module.named_buffers(recurse=False)
        if name.startswith("running_") or name == "num_batches_tracked"
    )


def _own_parameters(name: str, module: nn.Module) -> Iterator[str]:
    return (n for n, _ in module.named_parameters(prefix=name, recurse=False))


def _classes(module: nn.Module) -> list[type]:
    """Return a module's class and its base classes, up to `nn.Module`."""
    order = type(module).__mro__
    return list(order[: order.index(nn.Module)])


def _normalised_name(name: str) -> str:
    """Return the name of a class in the spelling of `_WORDS`.

    Words such as "Normalize" and "NormalCell" are removed, because they name no norm.

    Example:
        >>> names = "Filter_ResponseNorm2d", "Normalize", "LayerNormalization"
        >>> [_normalised_name(name) for name in names]
        ['filterresponsenorm2d', '', 'layernormalization']
    """
    return re.sub(r"normal(?!i[sz]ation)\w*", "", name.lower().replace("_", ""))


def _is_layer(module: nn.Module) -> bool:
    if type(module).__module__.startswith("torch.nn.utils"):
        return False  # weight norm and spectral norm normalise weights, not activations
    return all(
        next(chain(child.parameters(), child.buffers()), None) is None
        for child in module.children()
    )
