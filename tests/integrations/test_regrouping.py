"""Groups of an optimizer are divided, and its schedulers go on as if they had been so before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import timm.scheduler
import torch
from torch import nn
from torch.optim import lr_scheduler

from freezekit import FreezeError, FreezePlan, freeze_
from freezekit.integrations.regrouping import divide_groups, places_by_rate, set_rate

if TYPE_CHECKING:
    from collections.abc import Callable

SCALES = {"0.weight": 0.5, "1.weight": 1.0, "2.weight": 0.25}


def sequential(optimizer: Any) -> Any:
    parts = [lr_scheduler.LinearLR(optimizer), lr_scheduler.StepLR(optimizer, 2)]
    return lr_scheduler.SequentialLR(optimizer, parts, [4])


SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "step": lambda o: lr_scheduler.StepLR(o, 2),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda step: 1 / (step + 1)),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 9),
    "cyclic": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 4),
    "one-cycle": lambda o: lr_scheduler.OneCycleLR(o, 0.1, 12),
    "polynomial": lambda o: lr_scheduler.PolynomialLR(o, 9),
    "sequential": sequential,
}


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(4, 4, bias=False) for _ in range(3)))


def trained(model: nn.Module, optimizer: Any, scheduler: Any) -> list[torch.Tensor]:
    for step in range(10):
        optimizer.zero_grad()
        model(torch.ones(2, 4)).square().sum().backward()
        optimizer.step()
        if isinstance(scheduler, timm.scheduler.CosineLRScheduler):
            scheduler.step(step)
        else:
            scheduler.step()
    return [parameter.detach().clone() for parameter in model.parameters()]


@pytest.mark.parametrize("name", [*SCHEDULERS, "timm"])
def test_a_scheduler_of_one_group_goes_on_with_those_that_it_became(name: str) -> None:
    make = SCHEDULERS.get(
        name, lambda o: timm.scheduler.CosineLRScheduler(o, 9, warmup_t=3, warmup_lr_init=0)
    )
    apart = net()
    groups = [{"params": [p], "lr": 0.1 * SCALES[n]} for n, p in apart.named_parameters()]
    first = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    its = make(first)
    for group, scale in zip(first.param_groups, SCALES.values(), strict=True):
        if name in ("cyclic", "one-cycle"):  # these set rates of their own in all groups
            for key in ("lr", "max_lr", "min_lr", "initial_lr"):
                if key in group:
                    group[key] *= scale
    if name == "cyclic":
        its.base_lrs = [0.01 * scale for scale in SCALES.values()]
        its.max_lrs = [0.1 * scale for scale in SCALES.values()]
    expected = trained(apart, first, its)

    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = make(optimizer)
    frozen = freeze_(model, FreezePlan((), (), SCALES))
    divide_groups(optimizer, [scheduler], places_by_rate(frozen.backbone, frozen.plan))
    assert [g["name"] for g in optimizer.param_groups] == ["lr x 0.25", "lr x 0.5", "lr x 1"]
    found = trained(model, optimizer, scheduler)
    assert all(torch.allclose(a, b, rtol=1e-6) for a, b in zip(expected, found, strict=True))


def test_options_names_and_strangers_stay() -> None:
    model, stranger = net(), nn.Parameter(torch.ones(1))
    first, second, third = model.named_parameters()
    groups = [
        {"params": [first, ("stranger", stranger)], "weight_decay": 0.1, "name": "one"},
        {"params": [second, third], "betas": (0.5, 0.9), "lr": torch.tensor(0.1)},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.01)
    frozen = freeze_(model, FreezePlan(["1.weight"], (), {"0.weight": 0.5}))
    divide_groups(optimizer, [], places_by_rate(frozen.backbone, frozen.plan))
    found = [
        (g["name"], g["param_names"], float(g["lr"]), g["weight_decay"], g["betas"])
        for g in optimizer.param_groups
    ]
    assert found == [
        ("one, lr x 0.5", ["0.weight"], 0.005, 0.1, (0.9, 0.999)),
        ("one, other", ["stranger"], 0.01, 0.1, (0.9, 0.999)),
        ("group 2, frozen", ["1.weight"], pytest.approx(0.1), 0.01, (0.5, 0.9)),
        ("group 2, lr x 1", ["2.weight"], pytest.approx(0.1), 0.01, (0.5, 0.9)),
    ]
    assert optimizer.param_groups[2]["lr"] is not optimizer.param_groups[3]["lr"]


def test_a_rate_beside_others_is_refused() -> None:
    frozen = freeze_(net(), FreezePlan(["1.weight"]))
    optimizer = torch.optim.SGD(frozen.param_groups(0.1))
    with pytest.raises(FreezeError, match="were made with a learning rate by param_groups"):
        set_rate(optimizer, 0.2)
