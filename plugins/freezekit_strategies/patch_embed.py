"""`patch-embed`: freeze the patch embedding of a transformer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from freezekit import FreezePlan, PlanError, Strategy, hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freezekit import Backbone


@dataclass(frozen=True)
class PatchEmbed(Strategy):
    """Freeze the layers that make tokens of patches, a trick to keep training stable.

    Weights: those of the stem's modules frozen; class tokens and position tables, which are bare
    parameters, are trained. Running statistics: fixed in a convolutional stem. Randomness: off in
    the stem. Frees next to nothing: the stem is small, and what follows is trained.

    Helps against the sudden spikes of gradients in the first layer that make training from scratch
    of a vision transformer unstable; in fine-tuning it costs nothing.

    Source: Chen, Xie and He, An Empirical Study of Training Self-Supervised Vision Transformers
    (MoCo v3), arXiv 2104.02057, section 4.2.

    Example:
        >>> from freezekit import load_backbone, plan
        >>> model = load_backbone("timm:vit_tiny_patch16_224", device="meta")
        >>> sorted(plan(model, "patch-embed").frozen)
        ['patch_embed.proj.bias', 'patch_embed.proj.weight']
    """

    name: ClassVar[str] = "patch-embed"
    summary: ClassVar[str] = "freeze the patch embedding of a transformer, for stability"

    def plan(self, backbone: Backbone) -> FreezePlan:
        """Freeze the modules of the stem.

        Raises:
            PlanError: The model has no attention, so that it is no transformer; or its stem has no
                layers.
            StagingError: The model cannot be staged.
        """
        model = type(backbone.model).__name__
        if not backbone.attentions:
            raise PlanError(
                f"patch-embed: {model} has no attention layer, so it is no transformer; "
                "first-n-stages:n=0 freezes the stem of any model"
            )
        if set(backbone.attentions).intersection(backbone.stem.modules):
            raise PlanError(f"patch-embed: {model} attends in its first stage and embeds nothing")
        stem = set(backbone.stem.modules)
        around = {name.rpartition(".")[0] for name in backbone.modules}
        layers = stem - around  # what is bare in a module around layers is a token or a table
        frozen = [p for p in backbone.stem.parameters if backbone.parameters[p].module in layers]
        if not frozen:
            raise PlanError(f"patch-embed: the stem of {model} has no layer to freeze")
        return FreezePlan(frozen)


@hookimpl
def freezekit_strategies() -> Iterable[type[Strategy]]:
    """Offer the strategy of this module."""
    return [PatchEmbed]
