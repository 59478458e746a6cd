"""`verify(optimizer=...)` notices learning-rate multipliers that the optimizer ignores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from freezekit import Frozen, freeze_

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit import Check

IMAGES = torch.rand(2, 3, 32, 32)


@pytest.fixture(params=["discriminative-lr:decay=0.5", "layer-decay:decay=0.7"])
def frozen(request: pytest.FixtureRequest) -> Frozen:
    return freeze_(resnet18(num_classes=5), request.param)


def check(frozen: Frozen, optimizer: torch.optim.Optimizer) -> Check:
    found = frozen.verify(IMAGES, steps=1, optimizer=optimizer)
    return next(check for check in found.checks if check.name == "parameter-groups")


def sgd(frozen: Frozen, lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD(frozen.param_groups(lr=lr), lr=lr)


def test_an_optimizer_of_all_parameters_ignores_the_multipliers(frozen: Frozen) -> None:
    model = frozen.backbone.model
    found = check(frozen, torch.optim.SGD(model.parameters(), lr=0.1))
    assert not found.passed
    scaled = {n for n, scale in frozen.plan.lr_scales.items() if scale < 1}
    assert set(found.offenders) == scaled
    assert f"multipliers of {len(scaled)} are ignored" in found.detail
    assert "all parameters have the learning rate 0.1" in found.detail
    assert "make the optimizer of param_groups(lr=...)" in found.detail


@pytest.mark.parametrize("lr", [0.1, torch.tensor(0.003), 0.0])
def test_its_own_groups_pass(frozen: Frozen, lr: float) -> None:
    groups = frozen.param_groups(lr=float(lr))
    for group in groups:
        group["lr"] = group["lr"] * (lr / lr) if lr else 0.0
    assert check(frozen, torch.optim.SGD(groups, lr=0.1)).passed


def test_rates_typed_by_hand_may_be_rounded(frozen: Frozen) -> None:
    optimizer = sgd(frozen)
    for group in optimizer.param_groups:
        group["lr"] = float(f"{group['lr']:.4g}")
    assert check(frozen, optimizer).passed


def test_one_group_that_is_wrong_is_named(frozen: Frozen) -> None:
    optimizer = sgd(frozen)
    last = optimizer.param_groups[-1]
    last["lr"] *= 10
    found = check(frozen, optimizer)
    names = {id(p): name for name, p in frozen.backbone.model.named_parameters()}
    assert set(found.offenders) == {names[id(p)] for p in last["params"]}
    assert "are not what their learning rates follow" in found.detail


SCHEDULERS: dict[str, Callable[[torch.optim.Optimizer], object]] = {
    "step": lambda o: torch.optim.lr_scheduler.StepLR(o, 1),
    "warm-up": lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda epoch: epoch / 5),
    "at its minimum": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 1, eta_min=1e-5),
    "a rate for each": lambda o: torch.optim.lr_scheduler.OneCycleLR(
        o, [group["lr"] for group in o.param_groups], total_steps=9
    ),
}


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*before.*:UserWarning")
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_that_keeps_the_ratios_passes(name: str) -> None:
    frozen = freeze_(resnet18(num_classes=5), "discriminative-lr:decay=0.5")
    optimizer = sgd(frozen)
    scheduler = SCHEDULERS[name](optimizer)
    assert check(frozen, optimizer).passed
    scheduler.step()
    assert check(frozen, optimizer).passed


def test_a_scheduler_that_sets_one_rate_for_all_is_found(frozen: Frozen) -> None:
    optimizer = sgd(frozen)
    torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=9)
    found = check(frozen, optimizer)
    assert not found.passed
    assert "give a scheduler one rate for each group" in found.detail


def test_without_multipliers_any_rates_are_the_users_choice() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    frozen = freeze_(model, "by-name:contains=0.", example_input=torch.rand(2, 4))
    groups = [{"params": model[1].parameters(), "lr": 0.1}, {"params": model[2].parameters()}]
    found = frozen.verify(optimizer=torch.optim.SGD(groups, lr=1.0))
    assert found.passed
