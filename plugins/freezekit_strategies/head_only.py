"""`head-only`: train the classifier on frozen features (linear probe)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from freezekit import FreezePlan, PlanError, Strategy, hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freezekit import Backbone


@dataclass(frozen=True)
class HeadOnly(Strategy):
    """Train only the head: the classifier with the pooling and norm after the body.

    Weights: all frozen except those of the head. Running statistics: fixed outside the head.
    Randomness: off outside the head.

    The backward pass stops at the head, so the forward pass frees activations of the body at once.
    The rest of the peak are temporary tensors of the forward pass.

    Example:
        >>> from freezekit import load_backbone, plan
        >>> model = load_backbone("torchvision:resnet18", device="meta")
        >>> [n for n, _ in model.named_parameters() if n not in plan(model, "head-only").frozen]
        ['fc.weight', 'fc.bias']
    """

    name: ClassVar[str] = "head-only"
    summary: ClassVar[str] = "train the head, freeze the rest (linear probe)"

    @property
    def trains_only(self) -> bool:
        """Whether it names what is trained, and freezes all the rest."""
        return True

    def plan(self, backbone: Backbone) -> FreezePlan:
        """Freeze all stages except the head.

        Raises:
            PlanError: The model has no classifier.
        """
        if not backbone.head.parameters:
            raise PlanError(
                f"head-only needs a head to train, but {type(backbone.model).__name__} has no "
                "classifier with parameters: what was taken for the head is "
                f"{', '.join(backbone.head.modules) or 'nothing'}; build the model with "
                f"num_classes, or, if the last layer {backbone.last_layer!r} is the head, train it "
                f"alone with 'by-name:glob={backbone.last_layer}.*,invert=true'"
            )
        before = [stage for stage in backbone.stages if stage.kind != "head"]
        frozen = {name for stage in before for name in stage.parameters}
        return FreezePlan(frozen, backbone.inside(frozen, before))


@hookimpl
def freezekit_strategies() -> Iterable[type[Strategy]]:
    """Return the strategy of this module."""
    return [HeadOnly]
