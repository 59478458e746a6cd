"""Statistics in tensors that are neither parameters nor buffers."""

from __future__ import annotations

import copy
from collections import OrderedDict
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from freezekit import Verification, freeze_, verify_model

X = torch.rand(4, 3, 8, 8) + 1


def failed(found: Verification) -> dict[str, tuple[str, ...]]:
    return {check.name: check.offenders for check in found.checks if not check.passed}


def net(norm: nn.Module) -> nn.Sequential:
    body = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 3), norm=norm, act=nn.ReLU()))
    head = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 2))
    return nn.Sequential(OrderedDict(body=body, head=head))


def moved(model: nn.Module) -> tuple[str, ...]:
    """Freeze the first part, and return the statistics that moved in training."""
    frozen = freeze_(model, "by-name:contains=body")
    return failed(frozen.verify(X)).get("fixed-statistics", ())


class Norm(nn.Module):
    """Normalizes with `use`, and passes what it saw to `keep`."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, 4, 1, 1))
        self.start()

    def start(self) -> None:
        self.mean = torch.zeros(1, 4, 1, 1)

    def keep(self, mean: torch.Tensor) -> None:
        self.mean = 0.9 * self.mean + 0.1 * mean

    def is_live(self) -> bool:
        return True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean((0, 2, 3), keepdim=True)
        if self.is_live():
            self.keep(mean.detach())
        return (x - mean) * self.scale


class ByMode(Norm):
    def is_live(self) -> bool:
        return self.training


class ByGradient(Norm):
    def is_live(self) -> bool:
        return torch.is_grad_enabled()


class ByItsOwnFlag(Norm):
    def start(self) -> None:
        super().start()
        self.is_updating = True

    def is_live(self) -> bool:
        return self.is_updating


class InPlace(Norm):
    def keep(self, mean: torch.Tensor) -> None:
        self.mean.lerp_(mean, 0.1)


class InADict(Norm):
    def start(self) -> None:
        self.state = {"of": [torch.zeros(1, 4, 1, 1)]}

    def keep(self, mean: torch.Tensor) -> None:
        self.state["of"][0] = 0.9 * self.state["of"][0] + 0.1 * mean


class InAnObject(Norm):
    def start(self) -> None:
        self.state = SimpleNamespace(mean=torch.zeros(1, 4, 1, 1))

    def keep(self, mean: torch.Tensor) -> None:
        self.state.mean = 0.9 * self.state.mean + 0.1 * mean


class MadeInTheFirstForward(Norm):
    def start(self) -> None:
        self.mean = None

    def keep(self, mean: torch.Tensor) -> None:
        self.mean = mean if self.mean is None else 0.9 * self.mean + 0.1 * mean


class Largest(Norm):
    """Two forwards with one input leave it as one does."""

    def keep(self, mean: torch.Tensor) -> None:
        self.mean = torch.maximum(self.mean, mean)


class InitializedByData(Norm):
    def start(self) -> None:
        super().start()
        self.is_initialized = False

    def keep(self, mean: torch.Tensor) -> None:
        if not self.is_initialized:
            self.mean, self.is_initialized = mean, True


class Queue(Norm):
    def start(self) -> None:
        self.queue, self.next = torch.zeros(5, 4), 0

    def keep(self, mean: torch.Tensor) -> None:
        self.queue[self.next] = mean.flatten()
        self.next = (self.next + 1) % 5


@pytest.mark.parametrize(
    ("norm", "path"),
    [
        (Norm, "body.norm.mean"),
        (ByGradient, "body.norm.mean"),
        (ByItsOwnFlag, "body.norm.mean"),
        (InPlace, "body.norm.mean"),
        (InADict, "body.norm.state['of'][0]"),
        (InAnObject, "body.norm.state.mean"),
        (MadeInTheFirstForward, "body.norm.mean"),
        (Largest, "body.norm.mean"),
        (InitializedByData, "body.norm.mean"),
        (Queue, "body.norm.queue"),
    ],
)
def test_a_statistic_that_moves_is_found(norm: type[Norm], path: str) -> None:
    model = net(norm())
    assert moved(model) == (path,)
    model = net(norm())
    model.body.requires_grad_(False)
    assert path in failed(verify_model(model, X))["fixed-statistics"]


def test_what_to_do_is_said() -> None:
    found = freeze_(net(Norm()), "by-name:contains=body").verify(X)
    said = next(check.detail for check in found.checks if check.name == "fixed-statistics")
    assert said == (
        "1 tensor that is neither parameter nor buffer changed: the model's own code does that in "
        "eval mode too; switch it off there, or leave that part trainable"
    )


def test_one_that_the_hold_stops_is_fixed() -> None:
    assert moved(net(ByMode())) == ()
    model = net(ByMode())
    model.body.requires_grad_(False)  # without a hold
    assert "body.norm.mean" in failed(verify_model(model, X))["fixed-statistics"]


class KeptElsewhere(nn.Module):
    """The frozen part changes what the model keeps; the trained part keeps something of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 4, 3), nn.Sequential(nn.Conv2d(4, 4, 3), Norm())
        self.last = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
        self.statistics = {"body": torch.zeros(()), "head": torch.zeros(())}
        self.body.register_forward_hook(self.keep)

    def keep(self, _: nn.Module, __: object, output: torch.Tensor) -> None:
        self.statistics["body"] = 0.9 * self.statistics["body"] + output.detach().mean()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.head(self.body(x))
        self.statistics["head"] = 0.9 * self.statistics["head"] + x.detach().mean()
        return self.last(x)


def test_one_that_another_module_keeps_is_found() -> None:
    found = freeze_(KeptElsewhere(), "by-name:contains=body").verify(X)
    assert failed(found) == {"fixed-statistics": ("statistics['body']",)}


# What is kept and is no statistic.


class LastOutput(Norm):
    def keep(self, mean: torch.Tensor) -> None:
        self.mean = mean


class AllOutputs(Norm):
    def start(self) -> None:
        self.means: list[torch.Tensor] = []

    def keep(self, mean: torch.Tensor) -> None:
        self.means.append(mean)


class Table(Norm):
    def start(self) -> None:
        self.tables: dict[tuple[int, ...], torch.Tensor] = {}

    def keep(self, mean: torch.Tensor) -> None:
        self.tables.setdefault(tuple(mean.shape), torch.ones_like(mean))


@pytest.mark.parametrize("norm", [LastOutput, AllOutputs, Table])
@pytest.mark.parametrize("has_run", [False, True])
@pytest.mark.parametrize("is_behind_trained", [False, True])
def test_outputs_and_tables_are_no_statistics(
    norm: type[Norm], has_run: bool, is_behind_trained: bool
) -> None:
    model = net(norm())
    if has_run:
        model(X * 3)
    spec = "by-name:contains=norm" if is_behind_trained else "by-name:contains=body"
    assert failed(freeze_(model, spec).verify(X)) == {}


def test_trained_weights_that_a_frozen_module_refers_to_may_change() -> None:
    model = net(Norm())
    model.body.norm = nn.BatchNorm2d(4)
    model.body.norm.penalized = [model.head[0].weight, model.head[0].weight.data.view(-1)]
    assert moved(model) == ()


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_a_weight_that_is_computed_is_no_statistic() -> None:
    model = net(nn.BatchNorm2d(4))
    model.body.conv = nn.utils.weight_norm(model.body.conv)
    assert moved(model) == ()


def test_the_model_keeps_its_own() -> None:
    model = net(Norm())
    before = copy.deepcopy(model.body.norm.mean)
    assert moved(model)
    assert torch.equal(model.body.norm.mean, before)
