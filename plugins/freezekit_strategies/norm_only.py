"""`norm-only`: train the norms and the head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from freezekit import FreezePlan, PlanError, Strategy, hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freezekit import Backbone


@dataclass(frozen=True)
class NormOnly(Strategy):
    """Train the scale and shift of every norm (batch, layer, group or other), and the head.

    Weights: all others frozen. Running statistics: live in batch norms, as in the paper, unless
    `statistics=fixed`. Randomness: off only in modules that are wholly frozen, and between the
    layers of a frozen prefix. A block that contains a norm is not wholly frozen.

    Optimizer state and weight gradients become very small. The gradient passes through the whole
    model. A linear layer with a frozen weight does not keep its input, which removes more than a
    third of the activations of a transformer. A convolution with a frozen weight keeps its input in
    stock PyTorch, so a convolutional network keeps all its activations.

    Helps if each task must be stored in few parameters. The accuracy is lower than with full
    fine-tuning if the task is far from the pretraining.

    Source: Frankle, Schwab and Morcos, Training BatchNorm and Only BatchNorm, arXiv 2003.00152;
    for layer norms, Zhao et al., arXiv 2312.11420.

    Example:
        >>> from freezekit import load_backbone, plan
        >>> model = load_backbone("timm:vit_tiny_patch16_224", device="meta")
        >>> frozen = plan(model, "norm-only").frozen
        >>> [n for n, _ in model.named_parameters() if n not in frozen][:2]
        ['blocks.0.norm1.weight', 'blocks.0.norm1.bias']
    """

    name: ClassVar[str] = "norm-only"
    summary: ClassVar[str] = "train the norms and the head, freeze the rest"

    head: Annotated[bool, "train the head too"] = True
    statistics: Annotated[
        Literal["live", "fixed"], "live: update running statistics; fixed: keep them"
    ] = "live"

    @property
    def trains_only(self) -> bool:
        """Whether it names what is trained, and freezes all the rest."""
        return True

    @property
    def trains_head(self) -> bool:
        """Whether it means to train the head."""
        return self.head

    def plan(self, backbone: Backbone) -> FreezePlan:
        """Freeze all parameters except those of norms and head.

        Raises:
            PlanError: No norm of the model has parameters.
            StagingError: The head is to be trained, and the model cannot be staged.
        """
        trained = {name for norm in backbone.norms for name in norm.parameters}
        if not trained:
            raise PlanError(
                f"norm-only: {type(backbone.model).__name__} has no norm with weights to train"
            )
        if self.head:
            trained |= set(backbone.head.parameters)
        frozen = backbone.parameters.keys() - trained
        held = backbone.inside(frozen)
        tracking = {norm.name for norm in backbone.norms if norm.statistics}
        return FreezePlan(frozen, held | tracking if self.statistics == "fixed" else held)


@hookimpl
def freezekit_strategies() -> Iterable[type[Strategy]]:
    """Return the strategy of this module."""
    return [NormOnly]
