"""`layer-decay`: one learning rate for each layer, falling from the head to the stem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from freezekit import FreezePlan, Strategy, hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from freezekit import Backbone


@dataclass(frozen=True)
class LayerDecay(Strategy):
    """Train each layer more slowly than the next one. A layer is a block of the model.

    The head has multiplier 1, and each layer has `decay` times the multiplier of the next layer.
    The layers are those of timm's `param_groups_layer_decay`, if timm groups the model in the order
    of use. Otherwise they are the stem, each block of the body, the neck and the head, as freezekit
    observes them.

    Weights: all trained. Running statistics and randomness: live. It saves neither memory nor time.

    Helps to fine-tune transformers that were pretrained without labels. 0.65 to 0.75 is usual for
    base models. Larger models use a larger value.

    Source: Bao et al., BEiT, arXiv 2106.08254; He et al., MAE, arXiv 2111.06377.

    Example:
        >>> from freezekit import load_backbone, plan
        >>> model = load_backbone("timm:vit_tiny_patch16_224", device="meta")
        >>> scales = plan(model, "layer-decay:decay=0.5").lr_scales
        >>> [scales[f"blocks.{block}.norm1.weight"] for block in (11, 10, 9)]
        [0.5, 0.25, 0.125]
    """

    name: ClassVar[str] = "layer-decay"
    summary: ClassVar[str] = "a learning rate per block, falling from the head to the stem"

    decay: Annotated[float, "multiplier per layer back from the head, above 0, at most 1"] = 0.75

    def __post_init__(self) -> None:
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay is {self.decay}, expected a number above 0, at most 1")

    def plan(self, backbone: Backbone) -> FreezePlan:
        """Give each layer its multiplier.

        Raises:
            StagingError: The model cannot be staged.
        """
        layers = _timm_layers(backbone) or backbone.layers
        last = len(layers) - 1
        scales = {n: self.decay ** (last - at) for at, names in enumerate(layers) for n in names}
        return FreezePlan(lr_scales=scales, notes=[f"layer-decay: {len(layers)} layers"])


def _timm_layers(backbone: Backbone) -> Sequence[Sequence[str]]:
    """Return timm's layers, or () if it has none or they are not in the order of use."""
    try:
        from timm.models import group_parameters

        matcher = backbone.model.group_matcher(coarse=False)  # type: ignore[operator]  # timm's
        groups = group_parameters(backbone.model, matcher)
    except Exception:  # noqa: BLE001  # not a model of timm, or one that timm cannot group
        return ()
    layers = [groups[key] for key in sorted(groups)]
    layer_of = {name: at for at, names in enumerate(layers) for name in names}
    if layer_of.keys() != backbone.parameters.keys():
        return ()
    reached = 0
    for stage in backbone.stages:
        ids = [layer_of[name] for name in stage.parameters]
        if not ids:
            continue
        before_head = stage.kind in ("stem", "body")
        if min(ids) < reached - (stage.kind == "head") or (before_head and len(layers) - 1 in ids):
            return ()
        reached = max(ids)
    return layers


@hookimpl
def freezekit_strategies() -> Iterable[type[Strategy]]:
    """Return the strategy of this module."""
    return [LayerDecay]
