"""What is known about a model, as data: no torch here, so that plugins may import it freely."""

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
        buffers: Dotted names of its stateful buffers (running statistics and the like).
        modules: Dotted names of the modules that lie wholly in it, those without parameters too:
            what is held in eval mode when the whole stage is frozen.
        resolution: What its output is laid out on, without batch and channels: (height, width),
            (frames, height, width), (tokens,) or, for vectors, (); None where that is not known.

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
        name: Dotted name, the first one where a parameter is tied.
        shape: Its shape.
        module: Dotted name of the module that owns it ("" for the model itself).
        nbytes: Bytes it holds.
        aliases: Its other names, where it is tied.
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
    """One normalisation layer of a backbone, told by its type and not by its name.

    Attributes:
        name: Dotted name of the module.
        kind: What it derives from, or else what its class is called: "batch" (1d, 2d, 3d, Sync,
            frozen, fused with an activation), "group", "layer", "instance", "rms", "evo" (EvoNorm),
            "filter response"; "other" for the rest, such as ConvNeXt V2's global response norm.
        type_name: Name of its class.
        parameters: Dotted names of its own parameters.
        statistics: Dotted names of the buffers in which it keeps running statistics, the count of
            batches among them; empty where it keeps none. Of a norm that is frozen by its class,
            the running mean and variance, not the weight and bias that it holds as buffers.

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
    """Return the modules around `name`: "a.b.c" gives ["a", "a.b"].

    Example:
        >>> prefixes("a.b.c")
        ['a', 'a.b']
    """
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]
