"""`fraction`: freeze the first share of a model, by compute or by parameters."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from freezekit import FreezePlan, PlanError, Strategy, hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freezekit import Backbone


@dataclass(frozen=True)
class Fraction(Strategy):
    """Freeze as many first layers, block by block, as a share of the model holds, never the head.

    By `flops`, counted on the forward pass, the share is that of the compute, and so nearly that of
    the activations; by `parameters`, that of the weights, most of which lie late.
    Weights: the prefix frozen. Running statistics: fixed in the prefix. Randomness: off in the
    prefix. A prefix of share s saves s of the backward pass, and the activations of s.

    Helps to compare models of different depth at the same saving.

    Source: the prefix of FreezeOut, Brock et al., arXiv 1706.04983, held still.

    Example:
        >>> from freezekit import load_backbone, plan
        >>> model = load_backbone("torchvision:resnet18", device="meta")
        >>> frozen = plan(model, "fraction:share=0.5").frozen
        >>> sorted({name.rsplit(".", 2)[0] for name in frozen if "conv1" in name and "." in name})
        ['conv1', 'layer1.0', 'layer1.1', 'layer2.0']
    """

    name: ClassVar[str] = "fraction"
    summary: ClassVar[str] = "freeze the first share of the compute, or of the parameters"

    share: Annotated[float, "how much to freeze at most, between 0 and 1"]
    of: Annotated[Literal["flops", "parameters"], "what it is a share of"] = "flops"

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"share is {self.share}, expected a number between 0 and 1")

    def plan(self, backbone: Backbone) -> FreezePlan:
        """Freeze the longest prefix of layers within the share.

        Raises:
            PlanError: The first layer alone is more.
            StagingError: The model cannot be staged, or its FLOPs not be counted.
        """
        layers = backbone.layers
        sizes = [self._size(backbone, names) for names in layers]
        total = sum(sizes) or 1
        reached = [size / total for size in accumulate(sizes)]
        head = set(backbone.head.parameters)
        prefix = [
            names
            for names, share in zip(layers, reached, strict=True)
            if share <= self.share and head.isdisjoint(names)
        ]
        if not prefix:
            raise PlanError(
                f"fraction: share is {self.share}, but the stem of {type(backbone.model).__name__} "
                f"alone has {reached[0]:.0%} of the {self.of}; give a larger share"
            )
        said = f"fraction: {reached[len(prefix) - 1]:.1%} of the {self.of} in {len(prefix)} layers"
        return FreezePlan((name for names in prefix for name in names), notes=[said])

    def _size(self, backbone: Backbone, names: Iterable[str]) -> int:
        """Return how many parameters, or how many FLOPs in the modules of a layer alone."""
        if self.of == "parameters":
            return sum(backbone.parameters[name].numel for name in names)
        inside = backbone.wholly_frozen(names)
        outermost = [name for name in inside if name.rpartition(".")[0] not in inside]
        return sum(backbone.flops.get(name, 0) for name in outermost)


@hookimpl
def freezekit_strategies() -> Iterable[type[Strategy]]:
    """Offer the strategy of this module."""
    return [Fraction]
