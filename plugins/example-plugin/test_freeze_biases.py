"""`freeze-biases` keeps to what freezekit promises of strategies."""

import freezekit
import torch
from freezekit.testing import StrategyContract
from torch import Tensor, nn


class TestFreezeBiases(StrategyContract):
    specs = ("freeze-biases", "freeze-biases:head=true")


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


def test_the_stages_of_a_model_of_ones_own() -> None:
    images = torch.zeros(2, 4, 16, 16)
    plan = freezekit.plan(TwoStems(), "first-n-stages:n=0", example_input=images)
    assert {name.partition(".")[0] for name in plan.frozen} == {"colour", "depth"}
