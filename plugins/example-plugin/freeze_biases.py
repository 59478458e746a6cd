"""`freeze-biases`: a whole strategy plugin in one module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from freezekit import Backbone, FreezePlan, PlanError, Stage, Strategy, hookimpl

if TYPE_CHECKING:  # importing torch here would slow down every `freezekit strategies`
    from torch import nn


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
        return FreezePlan(frozen, eval_modules=())


@hookimpl
def freezekit_strategies() -> list[type[Strategy]]:
    """Offer the strategy."""
    return [FreezeBiases]


# The rest is for those who have a model that freezekit does not stage as they would: here one with
# two stems, for two kinds of image (the test has it). Delete it where there is none.


@hookimpl
def freezekit_stages(model: nn.Module) -> list[Stage] | None:
    """Name the stages of a model that this plugin knows; None for all others."""
    if type(model).__name__ != "TwoStems":
        return None
    both = ("colour.weight", "colour.bias", "depth.weight", "depth.bias")
    return [
        Stage("stem", "stem", parameters=both, modules=("colour", "depth")),
        Stage("shared", "body", parameters=("shared.weight", "shared.bias")),
        Stage("head", "head", parameters=("classifier.weight", "classifier.bias")),
    ]
