"""Models of fake tensors."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor

from freezekit.memory.fake import make_fake


class Keeps(nn.Module):
    """Uses its weights from where it keeps them for itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3)
        self.kept = {"all": [self.layer.weight, self.layer.bias]}

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, *self.kept["all"])


def test_weights_in_lists_and_dicts_are_the_fake_parameters() -> None:
    with torch.device("meta"):
        model = Keeps()
    with make_fake(model, "cpu"):
        model(torch.ones(1, 2)).sum().backward()
    assert model.kept["all"][0] is model.layer.weight
    assert isinstance(model.layer.weight.data, FakeTensor)
    assert model.layer.bias.grad.shape == (3,)


def test_recurrent_layers_have_their_flat_weights() -> None:
    model = nn.LSTM(2, 3, device="meta")
    with make_fake(model, "cpu"):
        assert model(torch.ones(4, 1, 2))[0].device.type == "cpu"
    assert list(map(id, model._flat_weights)) == list(map(id, model.parameters()))
