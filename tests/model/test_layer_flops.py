"""FLOPs by layer: each operator counts once, in the last layer that its inputs depend on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own convention
from torch import Tensor, nn

from freezekit import Backbone, PlanError, Stage, load_backbone
from freezekit.model.flops import forward_flops
from freezekit.model.layer_flops import layer_flops
from freezekit_strategies.fraction import Fraction

if TYPE_CHECKING:
    from collections.abc import Sequence

GIVEN = torch.ones(1, 4)


class Net(nn.Module):
    """Three matrices of 4 by 4, which is 32 FLOPs each for one row."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = (nn.Linear(4, 4, bias=False) for _ in range(3))

    layers: Sequence[Sequence[str]] = (("one.weight",), ("two.weight",), ("three.weight",))

    def forward(self, x: Tensor) -> Tensor:
        return self.three(self.two(self.one(x)))


class List(Net):
    """The modules are in a list, which is never called."""

    layers = (("parts.0.weight",), ("parts.1.weight",), ("parts.2.weight",))

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([self.one, self.two, self.three])
        del self.one, self.two, self.three

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part(x)
        return x


class Functions(Net):
    """The root calls functions with weights of its modules, in part by views."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.linear(x, self.one.weight)
        return (x @ self.two.weight.view(16).view(4, 4)) @ self.three.weight.T


class Made(Net):
    """The first layer makes the weights of the second product."""

    def forward(self, x: Tensor) -> Tensor:
        return self.three(x @ self.two.weight.tanh()) @ self.one.weight


class NoGradient(Net):
    """A frozen trunk runs without gradients."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.two(self.one(x))
        return self.three(x.detach())


class InPlace(Net):
    """A later layer writes into the values of an earlier one, in a part of its memory."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        x[:, :4].add_(self.two(x))
        return self.three(x)


class Values(Net):
    """It does not run on shapes alone."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if float(x.sum()) > 0 else x


class Kept(Net):
    """A weight that is no parameter is viewed without gradients, and given to a module."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = [torch.ones(1, 4, requires_grad=True)]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + self.two(self.kept[0].view(1, 4)))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (Net, (32, 32, 32)),
        (List, (32, 32, 32)),
        (Functions, (32, 32, 32)),
        (Made, (0, 32, 64)),
        (NoGradient, (32, 32, 32)),
        (InPlace, (32, 32, 32)),
        (Values, (32, 32, 32)),
        (Kept, (0, 96, 32)),
    ],
)
def test_each_operator_counts_in_the_last_layer_it_depends_on(
    make: type[Net], expected: tuple[int, ...]
) -> None:
    model = make()
    assert layer_flops(model, GIVEN, model.layers) == expected
    assert forward_flops(model, GIVEN)[""] == sum(expected)


def test_a_list_has_the_flops_of_its_modules() -> None:
    found = forward_flops(nn.Sequential(List(), Net()), GIVEN)
    assert found["0.parts"] == found["0"] == found["1"] == 96


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:vit_tiny_patch16_224"])
def test_layers_have_the_flops_of_their_modules(name: str) -> None:
    view = Backbone(load_backbone(name, device="meta"))
    inside = [view.wholly_frozen(names) for names in view.layers]
    outermost = [[n for n in names if n.rpartition(".")[0] not in names] for names in inside]
    expected = [sum(view.flops.get(n, 0) for n in names) for names in outermost]
    assert view.layer_flops == tuple(expected)
    assert sum(expected) == view.flops[""]


def test_fraction_refuses_a_model_without_flops() -> None:
    norms = nn.Sequential(*[nn.LayerNorm(3) for _ in range(3)])
    kinds = ("stem", "body", "head")
    names = [(f"{at}.weight", f"{at}.bias") for at in range(3)]
    stages = [Stage(kind, kind, part) for kind, part in zip(kinds, names, strict=True)]
    view = Backbone(norms, torch.ones(2, 3), stager=lambda _: stages)
    with pytest.raises(PlanError, match=r"Sequential runs no operator .*; give of=parameters"):
        Fraction(0.5).plan(view)
    assert Fraction(0.5, of="parameters").plan(view).frozen == {"0.weight", "0.bias"}
