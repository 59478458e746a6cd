"""`bias-only`: train the biases and the head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from freezekit import FreezePlan, PlanError, Strategy, hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freezekit import Backbone


@dataclass(frozen=True)
class BiasOnly(Strategy):
    """Train every bias and the head (BitFit).

    Biases are found by their role, not by their names alone: what linear layers, convolutions,
    norms, attention and recurrent layers add to each channel. A bias under a parametrization or
    under pruning is one too. Tables of position biases are not.

    Weights: all others frozen. Running statistics: fixed unless `statistics=live`. Randomness: off
    only in modules that are wholly frozen, and between the layers of a frozen prefix.

    The gradient of a bias needs no activation. So linear layers and convolutions need not keep
    their inputs (TinyTL). In stock PyTorch, linear layers do not keep their inputs, which are more
    than a third of the activations of a transformer. Convolutions keep theirs if a gradient passes
    through. With `statistics=live` a norm keeps its input too, because it normalises with
    statistics of the batch.

    Helps if each task must be stored in few parameters, and the task is close to the pretraining.

    Source: Ben Zaken, Ravfogel and Goldberg, BitFit, arXiv 2106.10199; Cai et al., TinyTL, arXiv
    2007.11622.

    Example:
        >>> from freezekit import load_backbone, plan
        >>> model = load_backbone("torchvision:resnet18", device="meta")
        >>> frozen = plan(model, "bias-only").frozen
        >>> [n for n, _ in model.named_parameters() if n not in frozen][-3:]
        ['layer4.1.bn2.bias', 'fc.weight', 'fc.bias']
    """

    name: ClassVar[str] = "bias-only"
    summary: ClassVar[str] = "train the biases and the head, freeze the rest (BitFit)"

    head: Annotated[bool, "train the weights of the head too"] = True
    statistics: Annotated[
        Literal["fixed", "live"], "fixed: keep running statistics; live: update them"
    ] = "fixed"

    @property
    def trains_only(self) -> bool:
        """Whether it names what is trained, and freezes all the rest."""
        return True

    @property
    def trains_head(self) -> bool:
        """Whether it means to train the head."""
        return self.head

    def plan(self, backbone: Backbone) -> FreezePlan:
        """Freeze all parameters except biases and those of the head.

        Raises:
            PlanError: The model has no bias.
            StagingError: The head is to be trained, and the model cannot be staged.
        """
        trained = set(backbone.biases)
        if not trained:
            raise PlanError(f"bias-only: {type(backbone.model).__name__} has no bias to train")
        if self.head:
            trained |= set(backbone.head.parameters)
        frozen = backbone.parameters.keys() - trained
        held = backbone.inside(frozen)
        tracking = {norm.name for norm in backbone.norms if norm.statistics}
        return FreezePlan(frozen, held | tracking if self.statistics == "fixed" else held)


@hookimpl
def freezekit_strategies() -> Iterable[type[Strategy]]:
    """Return the strategy of this module."""
    return [BiasOnly]
