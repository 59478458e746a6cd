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
    """Train every bias, including those of norms and of attention, and the head (BitFit).

    Weights: all others frozen. Running statistics: fixed unless `statistics=live`. Randomness: off
    only in modules that are wholly frozen.

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

    def plan(self, backbone: Backbone) -> FreezePlan:
        """Freeze all parameters except biases and those of the head.

        Raises:
            PlanError: The model has no bias.
            StagingError: The head is to be trained, and the model cannot be staged.
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
    """Return whether a parameter is a bias: "bias", or "in_proj_bias" and "q_bias" of attention.

    Example:
        >>> [_is_bias(name) for name in ("fc.bias", "attn.q_bias", "attn.relative_bias_table")]
        [True, True, False]
    """
    last = name.rpartition(".")[2]
    return last == "bias" or last.endswith("_bias")


@hookimpl
def freezekit_strategies() -> Iterable[type[Strategy]]:
    """Return the strategy of this module."""
    return [BiasOnly]
