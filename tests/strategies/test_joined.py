"""Strategies joined by `|`, which unites what is trained; what is warned of, with `+` and heads."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest

from freezekit import (
    Backbone,
    FreezekitWarning,
    PlanError,
    UnknownStrategyError,
    freeze_,
    load_backbone,
    load_registry,
    plan,
)
from freezekit.bench.selection import choose
from freezekit.plugins.registering import default_registry

if TYPE_CHECKING:
    from torch import nn


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    return load_backbone("torchvision:resnet18", device="meta")


def trained(model: nn.Module, spec: str) -> set[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FreezekitWarning)
        return {name for name, _ in model.named_parameters()} - plan(model, spec).frozen


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("norm-only | bias-only", ["norm-only", "bias-only"]),
        (
            "head-only | surgical:stages=1 | bias-only",
            ["head-only", "surgical:stages=1", "bias-only"],
        ),
        ("norm-only | head-only + bias-only", ["norm-only", "head-only + bias-only"]),
        ("norm-only + head-only | bias-only", ["norm-only + head-only", "bias-only"]),
        ("by-name:contains=bn|fc,invert=true | head-only", ["by-name:contains=bn|fc,invert=true"]),
        ("full | head-only", ["full"]),
    ],
)
def test_a_bar_trains_what_either_side_trains(
    resnet: nn.Module, spec: str, parts: list[str]
) -> None:
    assert trained(resnet, spec) == set().union(*(trained(resnet, part) for part in parts))


def test_plus_still_trains_what_both_sides_train(resnet: nn.Module) -> None:
    both = trained(resnet, "norm-only") & trained(resnet, "bias-only")
    assert trained(resnet, "norm-only + bias-only") == both


def test_what_either_side_leaves_live_is_live(resnet: nn.Module) -> None:
    live = plan(resnet, "norm-only | bias-only").eval_modules
    assert live == plan(resnet, "norm-only").eval_modules & plan(resnet, "bias-only").eval_modules
    assert "bn1" not in live
    assert "conv1" in live  # both freeze all that is in it
    whole = plan(resnet, "head-only | surgical:stages=1").eval_modules
    assert {"conv1", "bn1", "layer2.0"} <= whole
    assert "layer1.0" not in whole


def test_the_larger_multiplier_counts(resnet: nn.Module) -> None:
    slow = "discriminative-lr:decay=0.5"
    scales = plan(resnet, f"norm-only + {slow} | head-only").lr_scales
    assert scales["bn1.weight"] == 0.5**5
    assert "conv1.weight" not in scales
    assert plan(resnet, f"{slow} | norm-only").lr_scales["conv1.weight"] == 0.5**5
    assert "bn1.weight" not in plan(resnet, f"{slow} | norm-only").lr_scales


def test_a_model_trains_and_undoes_what_is_united() -> None:
    model = load_backbone("torchvision:resnet18")
    frozen = freeze_(model, "head-only | bias-only")
    flags = {name for name, p in model.named_parameters() if p.requires_grad}
    assert flags == trained(model, "head-only | bias-only")
    frozen.undo()
    assert all(p.requires_grad for p in model.parameters())


def test_the_canonical_text_keeps_the_bar() -> None:
    (_, found) = choose(["bias-only:head=yes |  norm-only"], default_registry())
    assert found.spec == "bias-only | norm-only"
    text = "bias-only + full | by-name:contains=a|b,invert=true"
    assert choose([text], default_registry())[1].spec == text
    assert [len(strategies) for strategies in load_registry().sums(text)] == [2, 1]
    assert len(load_registry().create(text)) == 3


def test_a_bar_with_spaces_in_an_option_says_what_to_write(resnet: nn.Module) -> None:
    with pytest.raises(UnknownStrategyError, match=r"'norm', .* write the bar without spaces"):
        plan(resnet, "by-name:contains=bn | norm")
    with pytest.raises(UnknownStrategyError) as caught:
        plan(resnet, "full | norm")
    assert "without spaces" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "counts"),
    [
        ("norm-only + bias-only", ("22 of 62", "42 parameters")),
        ("head-only + surgical:stages=1", ("2 of 62", "14 parameters")),
        ("batch-norm:train=only + last-n-stages:n=1", None),
        ("by-name:contains=fc,invert=true + head-only + bias-only", ("2 of 62", "22 parameters")),
    ],
)
def test_plus_between_two_that_say_what_is_trained_is_warned_of(
    resnet: nn.Module, spec: str, counts: tuple[str, str] | None
) -> None:
    with pytest.warns(FreezekitWarning, match="trains only what each of them trains") as caught:
        plan(resnet, spec)
    text = str(caught[0].message)
    for count in counts or ():
        assert count in text
    advice = text.rpartition("write '")[2].rstrip("'")
    assert "+" not in advice
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan(resnet, advice)


@pytest.mark.parametrize(
    "spec",
    [
        "norm-only + first-n-stages:n=1",
        "head-only + batch-norm",
        "norm-only + norm-only:statistics=fixed",
        "bias-only + discriminative-lr:decay=0.5",
        "norm-only | bias-only",
    ],
)
def test_no_warning_where_plus_is_meant(resnet: nn.Module, spec: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan(resnet, spec)


def test_nothing_left_to_train_says_how_to_unite(resnet: nn.Module) -> None:
    spec = "surgical:stages=1,head=false + surgical:stages=3,head=false"
    with pytest.raises(PlanError, match=r"nothing is left .*; to train what any .* \| surgical"):
        plan(resnet, spec)
    assert trained(resnet, spec.replace("+", "|"))


@pytest.fixture(scope="module")
def headless() -> nn.Module:
    model = load_backbone("timm:resnet18", num_classes=0, device="meta")
    assert not Backbone(model).head.parameters
    return model


@pytest.mark.parametrize(
    "spec",
    ["norm-only", "bias-only", "batch-norm:train=only", "surgical:stages=1", "fraction:share=0.9"],
)
def test_a_model_without_a_head_is_warned_of(headless: nn.Module, spec: str) -> None:
    with pytest.warns(FreezekitWarning, match="has no head with parameters") as caught:
        plan(headless, spec)
    (text,) = {str(each.message) for each in caught}
    assert "what was taken for the head is global_pool" in text
    assert "The last layer is 'layer4.1.bn2'" in text
    has_option = spec not in ("batch-norm:train=only", "fraction:share=0.9")
    assert ("head=false" in text) == has_option
    advice = text.partition("too: '")[2].partition("'")[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decided = plan(headless, advice)
    assert {"layer4.1.bn2.weight", "layer4.1.bn2.bias"}.isdisjoint(decided.frozen)


@pytest.mark.parametrize(
    "spec",
    [
        "norm-only:head=false",
        "surgical:stages=last",
        "fraction:share=0.3",
        "first-n-stages:n=1",
        "batch-norm",
    ],
)
def test_no_warning_where_no_head_is_meant_or_all_after_the_block_is_trained(
    headless: nn.Module, spec: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan(headless, spec)


def test_head_only_names_what_was_taken_for_the_head(headless: nn.Module) -> None:
    message = r"taken for the head is global_pool, .* 'by-name:glob=layer4.1.bn2.\*,invert=true'"
    with pytest.raises(PlanError, match=message):
        plan(headless, "head-only")
