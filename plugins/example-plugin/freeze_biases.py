"""`freeze-biases`: a whole strategy plugin in one module."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from freezekit import FreezePlan, Strategy, hookimpl


@dataclass(frozen=True)
class FreezeBiases(Strategy):
    """Freeze every bias; running statistics and randomness stay live."""

    name: ClassVar[str] = "freeze-biases"
    summary: ClassVar[str] = "freeze every bias"

    head: Annotated[bool, "freeze the head's biases too"] = False

    def plan(self, backbone):
        biases = {name for name in backbone.parameters if name.endswith("bias")}
        spared = () if self.head else backbone.head.parameters
        return FreezePlan(frozen=biases.difference(spared), fixed=())


@hookimpl
def freezekit_strategies():
    return [FreezeBiases]
