"""A compiled model is compiled once more for a plan that it has not had, and trains alike."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from freezekit import FreezePlan, freeze_


def net() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential()
    for name in ("stem", "body"):
        model.add_module(name, nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)))
    model.add_module("head", nn.Linear(8, 4))
    return model


def plans() -> list[FreezePlan]:
    names = [name for name, _ in net().named_parameters()]
    head = [name for name in names if not name.startswith("head")]
    stem = [name for name in names if name.startswith("stem")]
    return [FreezePlan(each) for each in (head, stem, [], stem, head)]


def trained(model: nn.Module, called: nn.Module) -> list[torch.Tensor]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for plan in plans():
        freeze_(model, plan)
        model.train()
        for step in range(3):
            x = torch.randn(6, 8, generator=torch.Generator().manual_seed(step))
            called(x).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    return [*model.parameters(), *model.buffers()]


@pytest.mark.filterwarnings("ignore:this freeze_.. thaws")  # the optimizer holds all parameters
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_one_compilation_for_each_new_plan(backend: str) -> None:
    torch._dynamo.reset()
    counter = CompileCounterWithBackend(backend)
    model, plain = net(), net()
    got = trained(model, torch.compile(model, backend=counter))
    assert counter.frame_count == 3  # of five phases: a plan that comes back is known
    for one, other in zip(got, trained(plain, plain), strict=True):
        assert torch.equal(one, other)
    torch._dynamo.reset()
