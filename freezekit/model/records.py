"""Facts about a model, as data. This module does not import torch, so that importing it is fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

StageKind = Literal["stem", "body", "neck", "head"]
NormKind = Literal["batch", "group", "layer", "instance", "rms", "evo", "filter response", "other"]


@dataclass(frozen=True)
class Stage:
    """One entry of the ordered, complete and disjoint partition of a backbone.

    Attributes:
        name: The model's own name for it, such as "layer1" or "blocks.3".
        kind: "stem", "body", "neck" (between body and classifier) or "head".
        parameters: Dotted names of its parameters, in registration order.
        buffers: Dotted names of its stateful buffers, such as running statistics.
        modules: Dotted names of the modules that lie wholly in it, with those without parameters.
            These are held in eval mode when the whole stage is frozen.
        resolution: Shape of its output without batch and channels: (height, width), (frames,
            height, width), (tokens,) or, for vectors, (); None where it is not known.

    Example:
        >>> Stage("head", "head", parameters=("fc.weight", "fc.bias"), modules=("fc",)).kind
        'head'
    """

    name: str
    kind: StageKind
    parameters: tuple[str, ...] = ()
    buffers: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    resolution: tuple[int, ...] | None = None


@dataclass(frozen=True)
class ParameterInfo:
    """One parameter of a backbone.

    Attributes:
        name: Dotted name; the first one of a tied parameter.
        shape: Its shape.
        module: Dotted name of the module that owns it ("" for the model itself).
        nbytes: Its size in bytes.
        aliases: The other names of a tied parameter.
    """

    name: str
    shape: tuple[int, ...]
    module: str
    nbytes: int
    aliases: tuple[str, ...] = ()

    @property
    def numel(self) -> int:
        """Number of elements."""
        count = 1
        for size in self.shape:
            count *= size
        return count


@dataclass(frozen=True)
class Norm:
    """One normalisation layer of a backbone, recognised by its type and not by its name.

    Attributes:
        name: Dotted name of the module.
        kind: By its base class, or otherwise by the name of its class: "batch" (1d, 2d, 3d, Sync,
            frozen, fused with an activation), "group", "layer", "instance", "rms", "evo" (EvoNorm),
            "filter response"; "other" for the rest, such as ConvNeXt V2's global response norm.
        type_name: Name of its class.
        parameters: Dotted names of its own parameters.
        statistics: Dotted names of the buffers in which it keeps running statistics, with the count
            of batches; empty where it keeps none. For a class that is always frozen, the running
            mean and variance, but not the weight and bias that it holds as buffers.

    Example:
        >>> Norm("bn1", "batch", "BatchNormAct2d", ("bn1.weight", "bn1.bias")).kind
        'batch'
    """

    name: str
    kind: NormKind
    type_name: str
    parameters: tuple[str, ...] = ()
    statistics: tuple[str, ...] = ()


def prefixes(name: str) -> list[str]:
    """Return the names of the modules around `name`, the outermost first.

    Example:
        >>> prefixes("a.b.c")
        ['a', 'a.b']
    """
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]
