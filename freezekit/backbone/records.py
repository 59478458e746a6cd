"""What is known about a model, as data: no torch here, so that plugins may import it freely."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

StageKind = Literal["stem", "body", "neck", "head"]
NormKind = Literal["batch", "group", "layer", "instance", "other"]


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

    Example:
        >>> Stage("head", "head", parameters=("fc.weight", "fc.bias"), modules=("fc",)).kind
        'head'
    """

    name: str
    kind: StageKind
    parameters: tuple[str, ...] = ()
    buffers: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()


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
        kind: "batch" for whatever derives from torch's batch norm (1d, 2d, 3d, Sync, timm's fused
            norm and activation), else "group", "layer", "instance" or "other".
        type_name: Name of its class.
        parameters: Dotted names of its own parameters.
        statistics: Dotted names of its running-statistics buffers; empty where it keeps none.
    """

    name: str
    kind: NormKind
    type_name: str
    parameters: tuple[str, ...] = ()
    statistics: tuple[str, ...] = ()
