"""Normalisation layers, told by their type."""

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
        model: Any module; a norm that is itself the model is not inside it.
        parameters: Dotted names to keep; a tied parameter is listed under the first of its names.

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

    Classes that derive from torch's are what those are, whatever they are called. Others share no
    base class; there the name of the class, or of one that it derives from, tells, if the module is
    a layer: nothing inside it, such as an activation, has tensors of its own. One that keeps a
    running mean and a running variance is a batch norm under any name.

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
    names = [_plain(made.__name__) for made in _classes(module)]
    for name in names:
        for word, kind in _WORDS:
            if word in name:
                return kind
    kept = {name for name in statistics_of(module) if name in ("running_mean", "running_var")}
    if len(kept) == 2:
        return "batch"
    return "other" if kept or any("norm" in name for name in names) else None


def statistics_of(module: nn.Module, prefix: str = "") -> tuple[str, ...]:
    """Return the names of the buffers in which a module itself keeps running statistics.

    These are the ones that torch and whoever follows it call `running_...`, and the count of
    batches. What a forward pass never updates, such as the weight and bias that torchvision's
    FrozenBatchNorm2d holds as buffers, is not among them.

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
    """Return the class of a module and those that it derives from, below torch's own."""
    order = type(module).__mro__
    return list(order[: order.index(nn.Module)])


def _plain(name: str) -> str:
    """Return the name of a class as `_WORDS` has it; "Normalize" and "NormalCell" are no norms.

    Example:
        >>> _plain("Filter_ResponseNorm2d"), _plain("Normalize"), _plain("LayerNormalization")
        ('filterresponsenorm2d', '', 'layernormalization')
    """
    return re.sub(r"normal(?!i[sz]ation)\w*", "", name.lower().replace("_", ""))


def _is_layer(module: nn.Module) -> bool:
    if type(module).__module__.startswith("torch.nn.utils"):
        return False  # weight norm and spectral norm: of weights, not of what passes through
    return all(
        next(chain(child.parameters(), child.buffers()), None) is None
        for child in module.children()
    )
