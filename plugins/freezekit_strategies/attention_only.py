"""`attention-only`: train the attention layers, and nothing else but the head."""

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

    Weights: all others frozen. Running statistics: fixed in what is wholly frozen. Randomness: off
    there too, drop path of the MLP branches among it. A third of a vision transformer's weights
    are left to train, and so are the optimizer's state and weight gradients. The gradient passes
    through every block; what the linear layers of the MLPs would keep is saved, some third of all
    activations.

    Helps with larger models and small images: as good as full fine-tuning there, and better with
    few samples.

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

    def plan(self, backbone: Backbone) -> FreezePlan:
        """Freeze all but attention and head.

        Raises:
            PlanError: The model has no attention.
            StagingError: The model cannot be staged, and the head is to be trained.
        """
        if not backbone.attentions:
            raise PlanError(
                f"attention-only: {type(backbone.model).__name__} has no attention layer to train; "
                "for a convolutional network norm-only or surgical trains few parameters"
            )
        layers = tuple(f"{name}." for name in backbone.attentions)
        trained = {name for name in backbone.parameters if name.startswith(layers)}
        if self.head:
            trained |= set(backbone.head.parameters)
        return FreezePlan(backbone.parameters.keys() - trained)


@hookimpl
def freezekit_strategies() -> Iterable[type[Strategy]]:
    """Offer the strategy of this module."""
    return [AttentionOnly]
