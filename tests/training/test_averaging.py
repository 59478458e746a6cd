"""Averages are those of torch's AveragedModel, and what is frozen is neither copied nor written."""

from __future__ import annotations

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from freezekit import freeze_
from freezekit.testing import MODELS
from freezekit.testing.models import images
from freezekit.training.averaging import AveragedWeights


def test_averages_are_those_of_torch() -> None:
    model = MODELS["residual"]().train()
    frozen = freeze_(model, "first-n-stages:n=2")
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.7), use_buffers=True)
    theirs.update_parameters(model)  # its first update copies
    ours = AveragedWeights(model, 0.7)
    optimizer = torch.optim.SGD(frozen.param_groups(0.1))
    versions = {name: model.get_parameter(name)._version for name in frozen.plan.frozen}
    for _ in range(3):
        model(images()).square().mean().backward()
        optimizer.step()
        theirs.update_parameters(model)
        ours.update()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with ours.in_force():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():  # torch averages counts too, and rounds them down
                assert torch.equal(tensor, theirs.module.state_dict()[name]), name
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert versions == {name: model.get_parameter(name)._version for name in frozen.plan.frozen}


def test_what_is_thawed_is_averaged_from_then_on() -> None:
    model = MODELS["residual"]().train()
    frozen = freeze_(model, "head-only")
    optimizer = torch.optim.SGD(frozen.param_groups(0.1, all_phases=True))
    averaged = AveragedWeights(model, 0.5)
    assert averaged.names == {"fc.weight", "fc.bias"}
    frozen.change_("full", optimizer)
    averaged.include_trained()
    assert averaged.names == set(model.state_dict())
    torch.nn.init.ones_(model.get_parameter("conv1.weight"))
    frozen.change_("head-only", optimizer)
    averaged.update()
    assert "conv1.weight" in averaged.names
    with averaged.in_force():
        assert not torch.equal(model.get_parameter("conv1.weight"), torch.ones(8, 3, 3, 3))
