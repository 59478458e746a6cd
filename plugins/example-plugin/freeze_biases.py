"""`freeze-biases`: a whole strategy plugin in one module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from freezekit import Backbone, FreezePlan, PlanError, Stage, Strategy, hookimpl
from torch import Tensor, nn


@dataclass(frozen=True)
class FreezeBiases(Strategy):
    """Freeze every bias; say here what it does, where it helps, and who found it.

    Weights: biases frozen, but for the head's. Running statistics and randomness: live.
    """

    name: ClassVar[str] = "freeze-biases"
    summary: ClassVar[str] = "freeze every bias"

    # The fields are the options: on the command line, freeze-biases:head=true.
    head: Annotated[bool, "freeze the head's biases too"] = False

    def plan(self, backbone: Backbone) -> FreezePlan:
        """Decide from what the backbone tells; freezekit does the freezing.

        Raises:
            PlanError: The model has no bias.
        """
        biases = {name for name in backbone.parameters if name.endswith("bias")}
        spared = () if self.head else backbone.head.parameters
        frozen = biases.difference(spared)
        if not frozen:
            raise PlanError(f"freeze-biases: {type(backbone.model).__name__} has no bias to freeze")
        return FreezePlan(frozen, fixed=())


@hookimpl
def freezekit_strategies() -> list[type[Strategy]]:
    """Offer the strategy."""
    return [FreezeBiases]


# The rest is for those who have a model that freezekit does not stage as they would: here one with
# two stems, for two kinds of image. Delete it where there is none.


class TwoStems(nn.Module):
    """A model of one's own: colour and depth, each with a stem, then what they share."""

    def __init__(self) -> None:
        super().__init__()
        self.colour, self.depth = nn.Conv2d(3, 8, 3), nn.Conv2d(1, 8, 3)
        self.shared = nn.Conv2d(8, 8, 3)
        self.classifier = nn.Linear(8, 2)

    def forward(self, image: Tensor) -> Tensor:
        """Take images of four channels, the last of them depth."""
        both = self.colour(image[:, :3]) + self.depth(image[:, 3:])
        logits: Tensor = self.classifier(self.shared(both.relu()).relu().mean((2, 3)))
        return logits


@hookimpl
def freezekit_stages(model: nn.Module) -> list[Stage] | None:
    """Name the stages of a model that this plugin knows; None for all others."""
    if not isinstance(model, TwoStems):
        return None
    both = ("colour.weight", "colour.bias", "depth.weight", "depth.bias")
    return [
        Stage("stem", "stem", parameters=both, modules=("colour", "depth")),
        Stage("shared", "body", parameters=("shared.weight", "shared.bias")),
        Stage("head", "head", parameters=("classifier.weight", "classifier.bias")),
    ]
