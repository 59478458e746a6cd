"""freeze_ warns of what the model's own forward changes in the frozen part."""

from __future__ import annotations

import warnings

import pytest
import timm
import torch
from torch import nn

from freezekit import FreezekitWarning, freeze_

TEXT = "own forward changes .* of the frozen part in train mode: "


class Follower(nn.Module):
    """An encoder that follows another by momentum, in one of the usual ways to write it."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.query = nn.Linear(2, 2)
        self.key = nn.Linear(2, 2)
        self.how = how

    @torch.no_grad()
    def follow(self) -> None:
        for query, key in zip(self.query.parameters(), self.key.parameters(), strict=True):
            if self.how == "assigned data":
                key.data = key.data * 0.9 + query.data * 0.1
            elif self.how == "data in place":
                key.data.mul_(0.9).add_(query.data, alpha=0.1)
            else:
                torch._foreach_lerp_([key], [query], 0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.follow()
        return self.query(x) - self.key(x)


@pytest.mark.parametrize("how", ["assigned data", "data in place", "foreach"])
def test_parameters_that_follow_by_momentum_are_named(how: str) -> None:
    model = Follower(how)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.warns(FreezekitWarning, match=f"{TEXT}'key.weight', 'key.bias'") as caught:
        frozen = freeze_(model, "by-name:glob=key.*", example_input=torch.randn(2, 2))
    assert caught[0].filename == __file__
    assert "warning: the model's own forward changes" in frozen.report()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_an_embedding_with_max_norm_is_named() -> None:
    model = nn.Sequential(nn.Embedding(4, 2, max_norm=1.0), nn.Linear(2, 2))
    with pytest.warns(FreezekitWarning, match=f"{TEXT}'0.weight'"):
        freeze_(model, "by-name:glob=0.*", example_input=torch.tensor([0, 1]))


class Observer(nn.Module):
    """What quantization-aware training does: it needs values, and goes on in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.register_buffer("largest", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.largest = torch.tensor(max(self.largest.item(), x.max().item()))
        return x * self.weight


def test_a_buffer_that_needs_values_is_named() -> None:
    model = nn.Sequential(Observer(), nn.Linear(2, 2))
    with pytest.warns(FreezekitWarning, match=f"{TEXT}'0.largest'"):
        freeze_(model, "by-name:glob=0.*", example_input=torch.randn(2, 2))
    assert not model[0].largest


class Caching(nn.Module):
    """A table that the first forward fills, and an output that each forward keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.register_buffer("table", None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.table is None:
            self.table = torch.zeros_like(x)
        self.last = self.layer(x) + self.table
        return self.last


def test_caches_dropout_and_norms_are_no_reason() -> None:
    images = torch.randn(2, 3, 32, 32)
    own = nn.Sequential(Caching(), nn.Dropout(0.5), nn.Linear(2, 2))
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(3600, 2))
    nn.utils.spectral_norm(net[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        freeze_(own, "by-name:glob=0.*", example_input=torch.randn(2, 2))
        freeze_(net, "by-name:glob=0.*|1.*", example_input=images)
        vit = timm.create_model("vit_tiny_patch16_224", img_size=32, drop_path_rate=0.1)
        freeze_(vit, "head-only", example_input=images)


def test_a_model_that_refuses_the_input_is_frozen_all_the_same() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    assert freeze_(model, "by-name:glob=0.*", example_input=torch.randn(2, 5)).plan.frozen
