"""first-n-stages, head-only and discriminative-lr: strategies that use stages."""

from __future__ import annotations

import itertools

import pytest
from torch import nn

from freezekit import Backbone, PlanError, SpecError, load_backbone, plan


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return load_backbone("torchvision:resnet18", device="meta")


@pytest.mark.parametrize("n", range(5))
def test_first_n_stages_freezes_stem_and_n_stages(model: nn.Module, n: int) -> None:
    decided = plan(model, f"first-n-stages:n={n}")
    tops = {"conv1", "bn1", *(f"layer{i}" for i in range(1, n + 1))}
    assert {name.split(".")[0] for name in decided.frozen} == tops
    assert {name for name in decided.eval_modules if "." not in name} == tops | {"relu", "maxpool"}


def test_first_n_stages_of_a_model_without_body() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    assert plan(net, "first-n-stages:n=0").frozen == {"0.weight", "0.bias"}
    with pytest.raises(PlanError, match="has no body stages, only a stem and a head; give n=0"):
        plan(net, "first-n-stages:n=1")


def test_first_n_stages_never_takes_neck_or_head() -> None:
    net = load_backbone("torchvision:efficientnet_b0", device="meta")
    decided = plan(net, "first-n-stages:n=7")
    assert not any(name.startswith(("classifier", "features.8")) for name in decided.frozen)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("first-n-stages", "first-n-stages.*'n'"),
        ("first-n-stages:n=-1", "n is -1, expected 0 or more"),
        ("first-n-stages:n=two", "first-n-stages.*'n'.*int.*'two'"),
        ("discriminative-lr", "give either decay"),
        ("discriminative-lr:decay=0.5,low=0.1,high=1", "give either decay"),
        ("discriminative-lr:low=0.1", "give either decay"),
        ("discriminative-lr:decay=1.5", "decay is 1.5"),
        ("discriminative-lr:low=1,high=0.1", "expected 0 < low <= high"),
    ],
)
def test_bad_options(model: nn.Module, spec: str, text: str) -> None:
    with pytest.raises(SpecError, match=text):
        plan(model, spec)


def test_head_only_leaves_the_head(model: nn.Module) -> None:
    decided = plan(model, "head-only")
    assert {n for n, _ in model.named_parameters()} - decided.frozen == {"fc.weight", "fc.bias"}


def test_head_only_refuses_a_model_without_head() -> None:
    with pytest.raises(PlanError, match="has no classifier with parameters"):
        plan(load_backbone("timm:resnet18", num_classes=0, device="meta"), "head-only")


def test_decay_counts_back_from_the_head(model: nn.Module) -> None:
    scales = plan(model, "discriminative-lr:decay=0.5").lr_scales
    assert "fc.weight" not in scales  # multiplier 1 goes unsaid
    assert scales["layer4.0.conv1.weight"] == 0.5
    assert scales["conv1.weight"] == 0.5**5


def test_low_and_high_are_spread_geometrically(model: nn.Module) -> None:
    scales = plan(model, "discriminative-lr:low=0.01,high=10").lr_scales
    stages = [stage.parameters[0] for stage in Backbone(model).stages]
    steps = [scales[b] / scales[a] for a, b in itertools.pairwise(stages)]
    assert scales["conv1.weight"] == pytest.approx(0.01)
    assert scales["fc.weight"] == pytest.approx(10)
    assert steps == pytest.approx([1000 ** (1 / 5)] * 5)


def test_freeze_below_freezes_stages_with_small_multipliers(model: nn.Module) -> None:
    decided = plan(model, "discriminative-lr:decay=0.5,freeze_below=0.1")
    assert {name.split(".")[0] for name in decided.frozen} == {"conv1", "bn1", "layer1"}
    assert "layer1.0.bn1" in decided.eval_modules
    assert min(decided.lr_scales.values()) == 0.125
