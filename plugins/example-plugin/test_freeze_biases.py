"""Tests of `freeze-biases`: freezekit's contract for strategies, and the stages of `TwoStems`."""

import freezekit
import torch
from freezekit.testing import StrategyContract
from torch import Tensor, nn


class TestFreezeBiases(StrategyContract):
    # One spec for each way in which the options change the plan.
    specs = ("freeze-biases", "freeze-biases:head=true")


class TwoStems(nn.Module):
    """A model with a stem for colour, a stem for depth, and shared layers after them."""

    def __init__(self) -> None:
        super().__init__()
        self.colour, self.depth = nn.Conv2d(3, 8, 3), nn.Conv2d(1, 8, 3)
        self.shared = nn.Conv2d(8, 8, 3)
        self.classifier = nn.Linear(8, 2)

    def forward(self, image: Tensor) -> Tensor:
        """Take images of four channels: three of colour, one of depth."""
        both = self.colour(image[:, :3]) + self.depth(image[:, 3:])
        logits: Tensor = self.classifier(self.shared(both.relu()).relu().mean((2, 3)))
        return logits


def test_both_stems_are_one_stage() -> None:
    images = torch.zeros(2, 4, 16, 16)
    plan = freezekit.plan(TwoStems(), "first-n-stages:n=0", example_input=images)
    assert {name.partition(".")[0] for name in plan.frozen} == {"colour", "depth"}
