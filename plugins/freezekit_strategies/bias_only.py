"""`bias-only`: train the biases, and nothing else but the head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from freezekit import FreezePlan, PlanError, Strategy, hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freezekit import Backbone


@dataclass(frozen=True)
class BiasOnly(Strategy):
    """Train every bias, those of norms and of attention too, and the head (BitFit).

    Weights: all others frozen. Running statistics: fixed unless `statistics=live`: with statistics
    of the batch a norm needs its input for the gradient, and the memory argument below falls.
    Randomness: off only in modules that are wholly frozen. A bias needs no activation for its
    gradient, so that in principle none of linear layers and convolutions need be kept (TinyTL).
    Stock PyTorch spares those of linear layers, more than a third of what a transformer saves, and
    keeps those of convolutions wherever a gradient passes through.

    Helps where few parameters must travel and the task is near to the pretraining.

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
        Literal["fixed", "live"], "fixed: keep running statistics; live: go on updating them"
    ] = "fixed"

    def plan(self, backbone: Backbone) -> FreezePlan:
        """Freeze all but biases and head.

        Raises:
            PlanError: The model has no bias.
            StagingError: The model cannot be staged, and the head is to be trained.
        """
        trained = {name for name in backbone.parameters if _is_bias(name)}
        if not trained:
            raise PlanError(f"bias-only: {type(backbone.model).__name__} has no bias to train")
        if self.head:
            trained |= set(backbone.head.parameters)
        frozen = backbone.parameters.keys() - trained
        whole = backbone.wholly_frozen(frozen)
        tracking = {norm.name for norm in backbone.norms if norm.statistics}
        return FreezePlan(frozen, whole | tracking if self.statistics == "fixed" else whole)


def _is_bias(name: str) -> bool:
    """Tell a bias by its name: "bias", and "in_proj_bias", "q_bias" of attention.

    Example:
        >>> [_is_bias(name) for name in ("fc.bias", "attn.q_bias", "attn.relative_bias_table")]
        [True, True, False]
    """
    last = name.rpartition(".")[2]
    return last == "bias" or last.endswith("_bias")


@hookimpl
def freezekit_strategies() -> Iterable[type[Strategy]]:
    """Offer the strategy of this module."""
    return [BiasOnly]
