"""Statistics of held modules stay through resets, whoever asks for them."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn

from freezekit import FreezekitWarning, FreezePlan, freeze_

if TYPE_CHECKING:
    from collections.abc import Callable


def net() -> nn.Sequential:
    """A trunk (0, 1) with statistics as if trained, and a tail with a norm of its own."""
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
        nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 2)),
    )
    model[0][1].running_mean.uniform_(1, 2)
    model[0][1].running_var.uniform_(2, 3)
    return model


TRUNK = FreezePlan({"0.0.weight", "0.0.bias", "0.1.weight", "0.1.bias"})


def batches() -> list[torch.Tensor]:
    return [torch.randn(4, 3, 8, 8) for _ in range(3)]


def statistics(norm: nn.Module) -> dict[str, torch.Tensor]:
    return {name: buffer.clone() for name, buffer in norm.named_buffers()}


def kept(before: dict[str, torch.Tensor], norm: nn.Module) -> bool:
    return all(torch.equal(before[name], buffer) for name, buffer in norm.named_buffers())


@pytest.mark.parametrize("lean", [False, True])
def test_swa_of_a_frozen_model_equals_swa_of_its_trained_part(lean: bool) -> None:
    model, data = net(), batches()
    trunk, tail = copy.deepcopy(model[0]).eval(), copy.deepcopy(model[1])
    frozen = freeze_(model, TRUNK, lean=lean)
    averages = []
    for trained, front in ((model, nn.Identity()), (tail, trunk)):
        groups = frozen.param_groups(0.1) if trained is model else tail.parameters()
        optimizer = torch.optim.SGD(groups, lr=0.1)
        averaged = AveragedModel(trained)
        seen = [front(batch).detach() for batch in data]
        for batch in seen:
            trained.train()
            optimizer.zero_grad()
            trained(batch).square().mean().backward()
            optimizer.step()
            averaged.update_parameters(trained)
        update_bn(seen, averaged)
        averages.append(averaged.module)
    whole, part = averages
    assert kept(statistics(trunk[1]), whole[0][1])
    for name, value in part.state_dict().items():
        assert torch.equal(whole[1].state_dict()[name], value), name


@pytest.mark.parametrize(
    "copied",
    [lambda m: m, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))],
    ids=["itself", "deepcopy", "pickle"],
)
@pytest.mark.parametrize("method", ["reset_running_stats", "reset_parameters"])
def test_a_held_norm_keeps_its_statistics_through_a_reset(
    copied: Callable[[nn.Module], nn.Module], method: str
) -> None:
    original = net()
    freeze_(original, TRUNK)
    model = copied(original)
    model[1][1].running_mean += 1
    before = statistics(original[0][1])
    for norm in (model[0][1], model[1][1]):
        getattr(norm, method)()
    assert kept(before, model[0][1])
    assert kept(before, original[0][1])
    assert not model[1][1].running_mean.any()


def test_undo_gives_the_methods_back() -> None:
    model = net()
    before = set(vars(model[0][1]))
    freeze_(model, TRUNK).undo()
    assert set(vars(model[0][1])) == before
    model[0][1].reset_running_stats()
    assert not model[0][1].running_mean.any()


class OwnNorm(nn.Module):
    """A norm by hand, which resets its statistics without the help of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(3))
        self.register_buffer("level", torch.zeros(3))

    def reset_stats(self) -> str:
        self.level = torch.zeros(3)
        return "done"

    def reset_parameters(self) -> None:
        self.gain.data.fill_(1)
        self.level.zero_()


def test_a_norm_of_ones_own_is_held_too_and_its_parameters_can_be_reset() -> None:
    model = nn.Sequential(OwnNorm(), nn.Linear(3, 2))
    model[0].level.fill_(5)
    model[0].gain.data.fill_(5)
    freeze_(model, "by-name:contains=gain")
    assert model[0].reset_stats() == "done"
    model[0].reset_parameters()
    assert (model[0].level == 5).all()
    assert (model[0].gain == 1).all()


def test_statistics_that_are_reset_by_assignment_are_kept_with_a_warning() -> None:
    model = net()
    freeze_(model, TRUNK)
    norm, live = model[0][1], model[1][1]
    live.running_mean += 1
    before = statistics(norm)
    with pytest.warns(FreezekitWarning, match="running_mean of a BatchNorm2d .* undo") as caught:
        norm.running_mean = torch.zeros_like(norm.running_mean)
    assert caught[0].filename == __file__
    with pytest.warns(FreezekitWarning, match="running_var"):
        norm.running_var = torch.ones_like(norm.running_var)
    live.running_mean = torch.zeros_like(live.running_mean)
    assert kept(before, norm)
    assert not live.running_mean.any()


def test_statistics_of_a_checkpoint_are_taken() -> None:
    model, other = net(), net()
    freeze_(model, TRUNK)
    for assign in (False, True):
        other[0][1].running_mean += 1
        model.load_state_dict(other.state_dict(), assign=assign)
        assert kept(statistics(other[0][1]), model[0][1])
    model[0][1].running_mean = torch.full((4,), 7.0)
    assert (model.double()[0][1].running_mean == 7).all()
