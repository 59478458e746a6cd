"""With the first stages frozen, however many, nothing in them asks for a gradient."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from freezekit import Backbone, StagingError
from freezekit.model.copies import real_copy
from freezekit.model.loading import load_backbone
from freezekit.staging.flow import Flow
from freezekit.staging.stages import find_stages

if TYPE_CHECKING:
    from collections.abc import Callable


class LateDropout(nn.Module):
    """Uses a dropout that lives in its second block once more, at the end of the third."""

    def __init__(self, late: int) -> None:
        super().__init__()
        width = [3, 8, 16, 32, 64]
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {"a": nn.Conv2d(i, o, 3, 2, 1), "b": nn.Conv2d(o, o, 1), "drop": nn.Dropout()}
            )
            for i, o in pairwise(width)
        )
        self.fc = nn.Linear(64, 5)
        self.late = late

    def forward(self, x: Tensor) -> Tensor:
        for at, block in enumerate(self.blocks):
            x = block["b"](block["a"](x).relu())
            if at == self.late:
                x = self.blocks[1]["drop"](x)
        return self.fc(x.mean((2, 3)))


def watch(found: list[tuple[int, str]], what: tuple[int, str]) -> Callable[..., None]:
    def hook(_module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.requires_grad:
            found.append(what)

    return hook


def leaks(model: nn.Module, images: Tensor) -> list[tuple[int, str]]:
    """Return what asks for a gradient though its stage is frozen, with flags set for real."""
    view = Backbone(model)
    found: list[tuple[int, str]] = []
    for n in range(1, len(view.stages)):
        copied = real_copy(model)
        frozen = {p for stage in view.stages[:n] for p in stage.parameters}
        modules = view.wholly_frozen(frozen).union(*(s.modules for s in view.stages[:n]))
        for name, parameter in copied.named_parameters():
            parameter.requires_grad_(name not in frozen)

        for name in modules:
            copied.get_submodule(name).register_forward_hook(watch(found, (n, name)))
        copied(images)
    return found


@pytest.mark.parametrize("late", [1, 2, 3])
def test_stages_that_depend_on_later_ones_are_merged(late: int) -> None:
    model = LateDropout(late)
    assert leaks(model, torch.randn(2, 3, 64, 64)) == []
    names = [stage.name for stage in find_stages(model)]
    assert len(names) == (6 - late)


@pytest.mark.parametrize(
    "text",
    ["timm:test_vit", "timm:test_efficientnet", "torchvision:googlenet", "torchvision:mc3_18"],
)
def test_real_models_leak_nothing(text: str) -> None:
    model = load_backbone(text)
    shape = (1, 3, 4, 32, 32) if "mc3" in text else (1, 3, 160, 160)
    assert leaks(model, torch.randn(shape)) == []


def test_a_model_that_goes_round_in_circles_has_no_stages() -> None:
    class Circle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Dropout())
            self.second = nn.Conv2d(3, 3, 3, padding=1)
            self.fc = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.fc(self.second(self.first[0](x)).mean((2, 3)))
            return self.first[1](y)  # type: ignore[no-any-return]  # modules return Any

    with pytest.raises(StagingError, match="no order that makes sense: what it uses first"):
        find_stages(Circle())


def test_flow_follows_the_graph_and_stops_where_it_is_cut() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    flow = Flow(model)
    hidden = model[0](torch.ones(1, 2))
    out = model[1](hidden)
    assert flow.names(flow.reach([out, "text"])) == tuple(n for n, _ in model.named_parameters())
    assert flow.names(flow.reach(model[1](hidden.detach()))) == ("1.weight", "1.bias")
    assert flow.names(flow.reach(model[0].bias)) == ("0.bias",)
