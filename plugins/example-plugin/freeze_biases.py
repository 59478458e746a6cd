"""`freeze-biases`: a freezekit plugin with one strategy and the stages of one model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from freezekit import Backbone, FreezePlan, PlanError, Stage, Strategy, hookimpl

if TYPE_CHECKING:  # an import of torch at run time would make `freezekit strategies` slow
    from torch import nn


@dataclass(frozen=True)
class FreezeBiases(Strategy):
    """Freeze every bias. Say here what the strategy does, where it helps, and its source.

    Weights: all biases frozen except those of the head. Running statistics and randomness: live.
    """

    name: ClassVar[str] = "freeze-biases"
    summary: ClassVar[str] = "freeze every bias"

    # The fields are the options. On the command line: freeze-biases:head=true
    head: Annotated[bool, "freeze the biases of the head too"] = False

    def plan(self, backbone: Backbone) -> FreezePlan:
        """Name the parameters to freeze. freezekit freezes them.

        Raises:
            PlanError: The model has no bias.
        """
        biases = {name for name in backbone.parameters if name.endswith("bias")}
        kept = () if self.head else backbone.head.parameters
        frozen = biases.difference(kept)
        if not frozen:
            raise PlanError(f"freeze-biases: {type(backbone.model).__name__} has no bias to freeze")
        return FreezePlan(frozen, eval_modules=())


@hookimpl
def freezekit_strategies() -> list[type[Strategy]]:
    """Return the strategies of this plugin."""
    return [FreezeBiases]


# Delete the rest unless you have a model that freezekit does not divide as you want. The example is
# a model with two stems, one for each kind of image. The test file contains the model.


@hookimpl
def freezekit_stages(model: nn.Module) -> list[Stage] | None:
    """Return the stages of a model that this plugin knows, and None for all other models."""
    if type(model).__name__ != "TwoStems":
        return None
    both = ("colour.weight", "colour.bias", "depth.weight", "depth.bias")
    return [
        Stage("stem", "stem", parameters=both, modules=("colour", "depth")),
        Stage("shared", "body", parameters=("shared.weight", "shared.bias")),
        Stage("head", "head", parameters=("classifier.weight", "classifier.bias")),
    ]
