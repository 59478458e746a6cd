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
    """Freeze the layers that turn patches into tokens, to keep training stable.

    Weights: frozen in the modules of the stem. Class tokens and position tables are parameters of
    the model itself, and are trained. Running statistics: fixed in a convolutional stem.
    Randomness: off in the stem.

    It saves almost no memory, because the stem is small and all later layers are trained.

    Helps against sudden spikes of the gradient in the first layer. They make the training of a
    vision transformer from scratch unstable. In fine-tuning the strategy has no cost.

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
            PlanError: The model has no attention layer, or its stem has no layer.
            StagingError: The model cannot be staged.
        """
        model = type(backbone.model).__name__
        if not backbone.attentions:
            raise PlanError(
                f"patch-embed: {model} has no attention layer, so it is not a transformer; "
                "first-n-stages:n=0 freezes the stem of any model"
            )
        if set(backbone.attentions).intersection(backbone.stem.modules):
            raise PlanError(
                f"patch-embed: the first stage of {model} contains attention, so there is no patch "
                "embedding to freeze"
            )
        stem = set(backbone.stem.modules)
        with_submodules = {name.rpartition(".")[0] for name in backbone.modules}
        layers = stem - with_submodules  # their own parameters are class tokens or position tables
        frozen = [p for p in backbone.stem.parameters if backbone.parameters[p].module in layers]
        if not frozen:
            raise PlanError(f"patch-embed: the stem of {model} has no layer to freeze")
        return FreezePlan(frozen)


@hookimpl
def freezekit_strategies() -> Iterable[type[Strategy]]:
    """Return the strategy of this module."""
    return [PatchEmbed]
