"""`freeze-biases` keeps to what freezekit promises of strategies."""

import freezekit
import torch
from freezekit.testing import StrategyContract
from freeze_biases import TwoStems


class TestFreezeBiases(StrategyContract):
    specs = ("freeze-biases", "freeze-biases:head=true")


def test_the_stages_of_a_model_of_ones_own() -> None:
    images = torch.zeros(2, 4, 16, 16)
    plan = freezekit.plan(TwoStems(), "first-n-stages:n=0", example_input=images)
    assert {name.partition(".")[0] for name in plan.frozen} == {"colour", "depth"}
