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
    """Freeze the longest prefix of layers within a share of the model. The head is never frozen.

    A layer is the stem, a block of the body, or a neck. With `of=flops` the share is counted in
    FLOPs of the forward pass, which is close to the share of activations. With `of=parameters` it
    is counted in parameters, and most parameters are in late layers. FLOPs of a prefix are those of
    all operators that depend on no later parameter.

    Weights: the prefix frozen. Running statistics: fixed in the prefix. Randomness: off in the
    prefix.

    The prefix keeps no activations. A prefix with the share s of the FLOPs shortens the backward
    pass by s.

    Helps to compare models of different depth at equal savings.

    Source: the prefix of FreezeOut, Brock et al., arXiv 1706.04983, with a fixed length.

    Example:
        >>> from freezekit import load_backbone, plan
        >>> model = load_backbone("torchvision:resnet18", device="meta")
        >>> frozen = plan(model, "fraction:share=0.5").frozen
        >>> sorted({name.rsplit(".", 2)[0] for name in frozen if "conv1" in name and "." in name})
        ['conv1', 'layer1.0', 'layer1.1', 'layer2.0']
    """

    name: ClassVar[str] = "fraction"
    summary: ClassVar[str] = "freeze the first share of the compute, or of the parameters"

    share: Annotated[float, "largest share to freeze, between 0 and 1"]
    of: Annotated[Literal["flops", "parameters"], "the unit in which the share is counted"] = (
        "flops"
    )

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"share is {self.share}, expected a number between 0 and 1")

    @property
    def trains_head(self) -> bool:
        """Whether it means to train the head."""
        return True

    def plan(self, backbone: Backbone) -> FreezePlan:
        """Freeze the longest prefix of layers within the share.

        Raises:
            PlanError: The first layer alone is larger than the share, or no FLOPs are counted.
            StagingError: The model cannot be staged, or its FLOPs cannot be counted.
        """
        layers, sizes = backbone.layers, self._sizes(backbone)
        total = sum(sizes)
        if not total:
            raise PlanError(
                f"fraction: {type(backbone.model).__name__} runs no operator whose FLOPs are "
                "counted; give of=parameters"
            )
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
        note = f"fraction: {reached[len(prefix) - 1]:.1%} of the {self.of} in {len(prefix)} layers"
        frozen = {name for names in prefix for name in names}
        stages = [
            stage
            for stage in backbone.stages
            if stage.kind != "head" and stage.parameters and frozen.issuperset(stage.parameters)
        ]
        return FreezePlan(frozen, backbone.inside(frozen, stages), notes=[note])

    def _sizes(self, backbone: Backbone) -> tuple[int, ...]:
        """Return the number of elements of each layer, or its FLOPs."""
        if self.of == "flops":
            return backbone.layer_flops
        numel = {name: info.numel for name, info in backbone.parameters.items()}
        return tuple(sum(numel[name] for name in names) for names in backbone.layers)


@hookimpl
def freezekit_strategies() -> Iterable[type[Strategy]]:
    """Return the strategy of this module."""
    return [Fraction]
