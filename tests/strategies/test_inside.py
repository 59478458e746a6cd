"""What lies inside a frozen prefix is held with it: norms without weights, dropout, drop path."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest
import torch
from timm.layers import DropPath
from torch import Tensor, nn

from freezekit import Backbone, FreezePlan, Stage, Strategy, freeze_, plan
from tests.sampled import sampled

if TYPE_CHECKING:
    from collections.abc import Callable

IMAGES = torch.randn(4, 3, 64, 64)


def flat(norm: Callable[[int], nn.Module]) -> nn.Sequential:
    """A net of 4 layers, each with a norm, an activation and dropout: 0 to 3, 4 to 7, and on."""
    layers: list[nn.Module] = []
    width = 3
    for out in (8, 16, 32, 32):
        conv = nn.Conv2d(width, out, 3, 2, 1, bias=False)
        layers += [conv, norm(out), nn.ReLU(inplace=True), nn.Dropout(0.5)]
        width = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5))


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": lambda width: nn.BatchNorm2d(width, affine=False),
    "instance": lambda width: nn.InstanceNorm2d(width, track_running_stats=True),
    "drop path": lambda _: DropPath(0.5),
    "wrapped": lambda width: nn.Sequential(nn.BatchNorm2d(width, affine=False), nn.Dropout()),
}


def held(model: nn.Module, spec: str | Strategy, example_input: object = None) -> set[str]:
    found = plan(model, spec, example_input=example_input).eval_modules
    assert found is not None
    return set(found)


@pytest.mark.parametrize("norm", sampled(NORMS, every=2))
@pytest.mark.parametrize(
    ("spec", "last"),
    [
        ("fraction:share=0.5,of=parameters", 11),
        ("fraction:share=0.5", 3),
        ("first-n-stages:n=2", 11),
        ("last-n-stages:n=1", 11),
        ("surgical:stages=last", 11),
        ("discriminative-lr:decay=0.5,freeze_below=0.3", 11),
        ("head-only", 15),
        (r"by-name:regex='^(0|4|8)\.'", 8),
        (r"by-name:regex='^0\.' + by-name:regex='^[48]\.'", 8),
        (r"by-name:regex='^18\.',invert=true", 12),
    ],
)
def test_every_strategy_that_freezes_a_prefix_holds_what_is_inside(
    norm: str, spec: str, last: int
) -> None:
    model = flat(NORMS[norm])
    tops = {name for name in held(model, spec) if "." not in name}
    assert tops == {str(at) for at in range(last + 1)}


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_a_training_step_leaves_the_prefix_as_it_is(norm: str) -> None:
    model = flat(NORMS[norm])
    frozen = freeze_(model, "fraction:share=0.5,of=parameters")
    before = {name: value.clone() for name, value in model[:12].state_dict().items()}
    first = model.train()[:12](IMAGES)
    model(IMAGES).sum().backward()
    assert torch.equal(first, model[:12](IMAGES))
    assert all(torch.equal(before[name], value) for name, value in model[:12].state_dict().items())
    assert model[13].training
    assert model[15].training
    assert frozen.verify(IMAGES).passed


def test_stages_that_a_plugin_names_hold_what_lies_between_their_layers() -> None:
    model = flat(NORMS["batch"])

    def named(_: nn.Module) -> list[Stage]:
        stages = [Stage("stem", "stem", ("0.weight", "4.weight"), _statistics(1, 5))]
        stages.append(Stage("body", "body", ("8.weight",), _statistics(9)))
        last = ("12.weight", "18.weight", "18.bias")
        return [*stages, Stage("head", "head", last, _statistics(13))]

    view = Backbone(model, IMAGES, stager=named)
    assert held(view, "first-n-stages:n=1") == {str(at) for at in range(9)}
    assert held(view, "first-n-stages:n=0") == {str(at) for at in range(5)}


def _statistics(*norms: int) -> tuple[str, ...]:
    names = ("running_mean", "running_var", "num_batches_tracked")
    return tuple(f"{norm}.{name}" for norm in norms for name in names)


def test_a_plan_without_eval_modules_of_any_strategy() -> None:
    class Mine(Strategy):
        name = "mine"
        summary = "freeze two layers"

        def plan(self, backbone: Backbone) -> FreezePlan:
            return FreezePlan({"0.weight", "4.weight"})

    assert held(flat(NORMS["batch"]), Mine()) == {"0", "1", "2", "3", "4"}


@pytest.mark.filterwarnings("ignore::freezekit.FreezekitWarning")
@pytest.mark.parametrize(
    ("spec", "live"),
    [
        ("bias-only", {10, 11, 14, 15}),
        ("bias-only:head=false,statistics=live", {9, 10, 11, 13, 14, 15}),
        ("norm-only", {9, 10, 11, 13, 14, 15}),
        ("norm-only:statistics=fixed", {10, 11, 14, 15}),
        ("batch-norm:train=only", {10, 11, 14, 15}),
        ("batch-norm:train=only,statistics=live", {1, 5, 9, 10, 11, 13, 14, 15}),
    ],
)
def test_strategies_that_train_little_hold_what_comes_before_it(spec: str, live: set[int]) -> None:
    model = flat(NORMS["batch"])
    model[9] = nn.BatchNorm2d(32)  # the first norm with weights
    assert {str(at) for at in range(16)} - held(model, spec) == {str(at) for at in live}


def test_a_prefix_that_arrived_frozen_is_held_with_what_is_inside() -> None:
    model = flat(NORMS["batch"])
    model[:9].requires_grad_(False)
    assert held(model, "full") == {str(at) for at in range(9)}
    frozen = freeze_(model, "full", example_input=IMAGES)
    assert frozen.verify(IMAGES).passed


class Shared(nn.Module):
    """One dropout for all layers, and something before the first layer."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.BatchNorm2d(3, affine=False)
        self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.three = nn.Conv2d(4, 4, 3)
        self.early, self.drop = nn.Dropout(), nn.Dropout()
        self.unused = nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.early(self.one(self.scale(x))))
        return self.three(self.drop(self.two(x))).mean((2, 3))


def test_a_module_that_is_also_used_after_the_prefix_stays_live() -> None:
    model = Shared()
    both = held(model, "by-name:contains=one|two", IMAGES)
    assert both == {"one", "early", "two"}
    assert held(model, "by-name:contains=one", IMAGES) == {"one"}
    assert held(model, "by-name:contains=two", IMAGES) == {"two"}


class TwoTrunks(nn.Module):
    def __init__(self, detached: bool = False) -> None:
        super().__init__()
        self.detached = detached
        self.a1, self.a_drop, self.a2 = nn.Linear(6, 4), nn.Dropout(), nn.Linear(4, 4)
        self.b_drop, self.b1, self.b2 = nn.Dropout(), nn.Linear(6, 4), nn.Linear(4, 4)
        self.fc = nn.Linear(8, 2)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        b = self.b2(self.b1(self.b_drop(b)))
        a = self.a2(self.a_drop(self.a1(a)))
        return self.fc(torch.cat([a.detach() if self.detached else a, b], 1))


@pytest.mark.parametrize("detached", [False, True])
def test_the_other_trunk_stays_live(detached: bool) -> None:
    pair = (torch.ones(2, 6), torch.ones(2, 6))
    model = TwoTrunks(detached)
    assert held(model, "by-name:glob=a1.*|a2.*", pair) == {"a1", "a_drop", "a2"}
    assert held(model, "by-name:glob=b1.*|b2.*", pair) == {"b1", "b2"}  # not what comes before


def test_a_model_that_cannot_be_observed_is_held_by_its_parameters() -> None:
    model = flat(NORMS["batch"])
    assert held(model, r"by-name:regex='^(0|4)\.'", torch.ones(1)) == {"0", "4"}


def test_the_dropout_of_a_trained_head_stays_live() -> None:
    head = nn.Sequential(nn.Dropout(), nn.Linear(8, 4), nn.Dropout(), nn.Linear(4, 2))
    body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Dropout(), nn.Conv2d(8, 8, 3))
    model = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decided = held(model, "by-name:glob=0.*")
    assert decided == {"0", "0.0", "0.1", "0.2"}
