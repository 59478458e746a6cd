"""`attention-only`: train the attention layers and the head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from freezekit import FreezePlan, PlanError, Strategy, hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freezekit import Backbone


@dataclass(frozen=True)
class AttentionOnly(Strategy):
    """Train the attention layers of a transformer and the head; freeze MLPs, norms, embeddings.

    Weights: all others frozen. Running statistics: fixed in modules that are wholly frozen.
    Randomness: off in the same modules, so drop path of the MLP branches is off.

    About a third of the weights of a vision transformer are trained. So weight gradients and
    optimizer state fall to a third. The gradient still passes through every block. The linear
    layers of the MLPs do not keep their inputs, which are about a third of all activations.

    Helps with larger models and small images: it is as accurate as full fine-tuning there. With few
    samples it is more accurate.

    Source: Touvron et al., Three Things Everyone Should Know About Vision Transformers, arXiv
    2203.09795.

    Example:
        >>> from freezekit import load_backbone, plan
        >>> model = load_backbone("timm:vit_tiny_patch16_224", device="meta")
        >>> frozen = plan(model, "attention-only").frozen
        >>> "blocks.0.attn.qkv.weight" in frozen, "blocks.0.mlp.fc1.weight" in frozen
        (False, True)
    """

    name: ClassVar[str] = "attention-only"
    summary: ClassVar[str] = "train the attention layers and the head, freeze the rest"

    head: Annotated[bool, "train the head too"] = True

    @property
    def trains_only(self) -> bool:
        """Whether it names what is trained, and freezes all the rest."""
        return True

    @property
    def trains_head(self) -> bool:
        """Whether it means to train the head."""
        return self.head

    def plan(self, backbone: Backbone) -> FreezePlan:
        """Freeze all parameters except those of attention layers and head.

        Raises:
            PlanError: The model has no attention layer.
            StagingError: The head is to be trained, and the model cannot be staged.
        """
        if not backbone.attentions:
            raise PlanError(
                f"attention-only: {type(backbone.model).__name__} has no attention layer to train; "
                "for a convolutional network, use norm-only or surgical to train few parameters"
            )
        layers = tuple(f"{name}." for name in backbone.attentions)
        trained = {name for name in backbone.parameters if name.startswith(layers)}
        if self.head:
            trained |= set(backbone.head.parameters)
        return FreezePlan(backbone.parameters.keys() - trained)


@hookimpl
def freezekit_strategies() -> Iterable[type[Strategy]]:
    """Return the strategy of this module."""
    return [AttentionOnly]
