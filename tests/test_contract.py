"""The contract for strategies: the built-in ones keep it, and each breach of it is reported."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy
import pytest
import torch
from torch import nn

from freezekit import Backbone, FreezePlan, PlanError, Strategy
from freezekit.testing import MODELS, StrategyContract
from freezekit.testing.models import CLASSES, images
from freezekit_strategies.attention_only import AttentionOnly
from freezekit_strategies.bias_only import BiasOnly
from freezekit_strategies.fraction import Fraction
from freezekit_strategies.last_n_stages import LastNStages
from freezekit_strategies.layer_decay import LayerDecay
from freezekit_strategies.norm_only import NormOnly
from freezekit_strategies.patch_embed import PatchEmbed
from freezekit_strategies.surgical import Surgical

if TYPE_CHECKING:
    from collections.abc import Callable


class TestBuiltIn(StrategyContract):
    specs = (
        "full",
        "head-only",
        "first-n-stages:n=1",
        "by-name:contains=bias",
        "batch-norm",
        "batch-norm:train=only",
        "discriminative-lr:decay=0.5,freeze_below=0.3",
        LastNStages(1),
        Surgical("first"),
        Surgical("last", head=False),
        Fraction(0.5),
        LayerDecay(0.7),
        NormOnly(),
        BiasOnly(),
        AttentionOnly(),
        PatchEmbed(),
    )


@pytest.mark.parametrize("name", MODELS)
def test_the_models_are_small_and_can_be_staged(name: str) -> None:
    model = MODELS[name]()
    output = model(images())
    logits = output[-1] if isinstance(output, tuple) else output
    assert logits.shape == (4, CLASSES)
    assert len(Backbone(model, images()).stages) >= 3
    assert sum(p.numel() for p in model.parameters()) < 20_000


@dataclass(frozen=True)
class Good(Strategy):
    """Freezes the first parameter."""

    name: ClassVar[str] = "fine"
    summary: ClassVar[str] = "freeze the first parameter"

    def plan(self, backbone: Backbone) -> FreezePlan:
        return FreezePlan({next(iter(backbone.parameters))})


class SetsFlags(Good):
    def plan(self, backbone: Backbone) -> FreezePlan:
        for parameter in backbone.model.parameters():
            parameter.requires_grad = False
        return super().plan(backbone)


class SetsMode(Good):
    def plan(self, backbone: Backbone) -> FreezePlan:
        backbone.model.eval()
        return super().plan(backbone)


class ChangesWeights(Good):
    def plan(self, backbone: Backbone) -> FreezePlan:
        with torch.no_grad():
            next(backbone.model.parameters()).add_(1)
        return super().plan(backbone)


class UsesRandomness(Good):
    def plan(self, backbone: Backbone) -> FreezePlan:
        names = list(backbone.parameters)
        return FreezePlan({names[int(torch.randint(len(names), ()))]})


class CountsCalls(Good):
    calls = 0

    def plan(self, backbone: Backbone) -> FreezePlan:
        type(self).calls += 1
        return FreezePlan({list(backbone.parameters)[self.calls % 2]})


class NamesUnknown(Good):
    def plan(self, backbone: Backbone) -> FreezePlan:
        return FreezePlan({"no.such.weight"})


class FreezesAll(Good):
    def plan(self, backbone: Backbone) -> FreezePlan:
        return FreezePlan(backbone.parameters)


class Fails(Good):
    def plan(self, backbone: Backbone) -> FreezePlan:
        raise KeyError("layer4")


class RefusesWithoutReason(Good):
    def plan(self, backbone: Backbone) -> FreezePlan:
        raise PlanError("no")


class Refuses(Good):
    def plan(self, backbone: Backbone) -> FreezePlan:
        raise PlanError("refuses: this takes no model at all")


@dataclass(frozen=True)
class ChangesModel(Good):
    """Changes the model in the given way, then makes a good plan."""

    act: Callable[[nn.Module], object] = nn.Module.train

    def plan(self, backbone: Backbone) -> FreezePlan:
        self.act(backbone.model)
        return super().plan(backbone)


class LearnsTooSlowly(Good):
    def plan(self, backbone: Backbone) -> FreezePlan:
        return FreezePlan(lr_scales=dict.fromkeys(backbone.parameters, 1e-30))


class DependsOnFlags(Good):
    def plan(self, backbone: Backbone) -> FreezePlan:
        flags = [p.requires_grad for p in backbone.model.parameters()]
        return FreezePlan({list(backbone.parameters)[all(flags)]})


class Unequal(Good):
    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = Good.__hash__


def clauses(strategy: Strategy) -> dict[str, Callable[[], object]]:
    class Contract(StrategyContract):
        specs = (strategy,)

    contract = Contract()
    return {
        "builds": lambda: contract.test_the_spec_builds_and_round_trips(strategy),
        "accepts": lambda: contract.test_at_least_one_model_is_accepted(strategy),
        "pure": lambda: contract.test_the_plan_is_pure(strategy, "residual"),
        "names": lambda: contract.test_the_plan_names_parts_of_the_model(strategy, "residual"),
        "frozen": lambda: contract.test_frozen_is_frozen(strategy, "residual"),
    }


def test_a_good_strategy_passes() -> None:
    for check in clauses(Good()).values():
        check()


@pytest.mark.parametrize(
    ("strategy", "clause", "said"),
    [
        (Unequal(), "builds", "is not equal to it"),
        (
            Refuses(),
            "accepts",
            "refuses all models .* gives the reason: refuses: this takes no model at all. Add a",
        ),
        (SetsFlags(), "pure", r"changes the model or the process \(requires_grad\)"),
        (SetsMode(), "pure", r"\(train mode\)"),
        (ChangesWeights(), "pure", r"\(weights or buffers\)"),
        (UsesRandomness(), "pure", r"\(random state\)"),
        (CountsCalls(), "pure", "gives another plan when it is asked again"),
        (DependsOnFlags(), "pure", "gives another plan when it is asked again"),
        (LearnsTooSlowly(), "frozen", "its learning rate is too small"),
        (NamesUnknown(), "names", "no.such.weight"),
        (FreezesAll(), "names", "nothing is left to train"),
        (Fails(), "names", "KeyError.*it raises PlanError with the reason"),
        (RefusesWithoutReason(), "names", "say in a sentence what is missing"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Strategy) else None,
)
def test_each_breach_is_reported(strategy: Strategy, clause: str, said: str) -> None:
    with pytest.raises(AssertionError, match=said) as caught:
        clauses(strategy)[clause]()
    assert str(caught.value).partition("\n")[0].rstrip().endswith((".", ":", "?"))


def first_parameter(model: nn.Module) -> nn.Parameter:
    return next(model.parameters())


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda model: random.random(), "random state of Python"),
        (lambda model: numpy.random.rand(), "random state of NumPy"),
        (
            lambda model: setattr(first_parameter(model), "grad", torch.ones(8, 3, 3, 3)),
            "gradients",
        ),
        (lambda model: first_parameter(model).register_hook(lambda grad: grad), "hooks"),
        (lambda model: model.register_forward_pre_hook(lambda *_: None), "hooks"),
        (lambda model: model.register_full_backward_hook(lambda *_: None), "hooks"),
        (lambda model: setattr(norm_of(model), "momentum", 0.0), "attributes"),
        (
            lambda model: setattr(norm_of(model), "weight", nn.Parameter(norm_of(model).weight)),
            "parameters or buffers",
        ),
    ],
)
def test_each_other_change_of_the_model_is_reported(
    act: Callable[[nn.Module], object], said: str
) -> None:
    check = clauses(ChangesModel(act))["pure"]
    with pytest.raises(AssertionError, match=rf"changes the model or the process \(.*{said}"):
        check()


def norm_of(model: nn.Module) -> nn.BatchNorm2d:
    return next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "Contract names no spec: set `specs`"),
        ("full", r"the text 'full' as `specs`, expected a tuple: specs = \('full',\)"),
        (("ful",), r"unknown strategy 'ful'.*install its plugin: pip install -e \."),
    ],
)
def test_a_contract_without_usable_specs_says_so(given: object, message: str) -> None:
    class Contract(StrategyContract):
        specs = given

    class Metafunc:
        fixturenames = ("spec",)

    with pytest.raises(AssertionError, match=message):
        Contract().pytest_generate_tests(Metafunc())
