"""The handle looks at the live model and says where it has departed from its plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torchvision.models import resnet18

from freezekit import FreezeError, FreezekitWarning, Frozen, freeze_
from freezekit.lean.native.core import core_in_use

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def frozen() -> Frozen:
    return freeze_(resnet18(num_classes=5), "first-n-stages:n=1 + discriminative-lr:decay=0.5")


def report(frozen: Frozen) -> str:
    return " ".join(frozen.report().split())


def thaw(model: nn.Module) -> None:
    model.layer1.requires_grad_(True)


def freeze_more(model: nn.Module) -> None:
    model.layer4[0].conv1.requires_grad_(False)


def new_head(model: nn.Module) -> None:
    model.fc = nn.Sequential(nn.Linear(512, 4), nn.Linear(4, 2))


def head_of_two_classes(model: nn.Module) -> None:
    model.fc = nn.Linear(512, 2)


class Adapter(nn.Module):
    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base_layer = base
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base_layer(x) * self.scale


def adapter(model: nn.Module) -> None:
    model.layer1[0].conv1 = Adapter(model.layer1[0].conv1)


def without_statistics(model: nn.Module) -> None:
    for norm in (model.bn1, model.layer1[0].bn1):
        norm.track_running_stats, norm.running_mean, norm.running_var = False, None, None


def synchronised(model: nn.Module) -> None:
    nn.SyncBatchNorm.convert_sync_batchnorm(model)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (thaw, "12 parameter(s) that the plan freezes are trained: 'layer1.0.bn1.bias'"),
        (freeze_more, "1 parameter(s) that the plan trains are frozen: 'layer4.0.conv1.weight'"),
        (new_head, "4 new parameter(s) are trained: 'fc.0.bias'"),
        (new_head, "2 parameter(s) have left the model: 'fc.bias', 'fc.weight'"),
        (head_of_two_classes, "2 parameter(s) have another shape: 'fc.bias', 'fc.weight'"),
        (adapter, "1 new parameter(s) are trained: 'layer1.0.conv1.scale'"),
        (without_statistics, "2 held norm(s) have lost their statistics, and use those of each"),
        (synchronised, "5 module(s) are no longer held in eval mode under this name: 'bn1'"),
    ],
)
def test_what_departed_is_told_and_what_trains_is_in_groups(
    frozen: Frozen, change: Callable[[nn.Module], None], text: str
) -> None:
    model = frozen.backbone.model
    change(model)
    told = report(frozen)
    assert text in told
    assert "departed from its plan" in repr(frozen)
    with pytest.warns(FreezekitWarning, match="has departed from its plan since") as caught:
        groups = frozen.param_groups(lr=1.0)
    assert caught[0].filename == __file__
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    assert {id(p) for g in groups for p in g["params"]} == trained
    elements = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert f"ResNet: {elements:,} of " in told
    of = {id(p): g["lr"] for g in groups for p in g["params"]}
    assert of[id(model.layer3[0].conv1.weight)] == 0.25
    count = sum(not p.requires_grad for p in model.parameters())
    assert f"ResNet: {count} of {len(list(model.parameters()))} parameters frozen" in repr(frozen)


def test_a_head_that_left_is_in_no_table() -> None:
    model = resnet18(num_classes=5)
    frozen = freeze_(model, "head-only")
    early = torch.optim.SGD(frozen.param_groups(0.1, all_phases=True))
    model.fc = nn.Identity()
    for told in (report(frozen), " ".join(frozen.report(early).split())):
        assert "ResNet: 0 of 11,176,512 parameters trained" in told
        assert "2 parameter(s) have left the model: 'fc.bias', 'fc.weight'" in told
    with (
        pytest.warns(FreezekitWarning, match="have left the model"),
        pytest.raises(FreezeError, match="no parameter of this ResNet is trained now"),
    ):
        frozen.param_groups(lr=1.0)


def test_a_renamed_parameter_is_no_departure(frozen: Frozen) -> None:
    prune.l1_unstructured(frozen.backbone.model.layer3[0].conv1, "weight", 0.5)
    assert "departed" not in report(frozen) + repr(frozen)
    of = {id(p): g["lr"] for g in frozen.param_groups(lr=1.0) for p in g["params"]}
    assert of[id(frozen.backbone.model.layer3[0].conv1.weight_orig)] == 0.25


def test_a_norm_that_never_had_statistics_has_lost_none() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), nn.Conv2d(3, 4, 1))
    frozen = freeze_(net, "by-name:glob=0.*")
    assert "departed" not in report(frozen)


def test_groups_of_a_model_that_trains_nothing_are_refused(frozen: Frozen) -> None:
    frozen.backbone.model.requires_grad_(False)
    with (
        pytest.warns(FreezekitWarning, match="the plan trains are frozen"),
        pytest.raises(FreezeError, match="no parameter of this ResNet is trained now"),
    ):
        frozen.param_groups(lr=1.0)


def test_a_handle_that_is_no_longer_in_force_says_so(frozen: Frozen) -> None:
    frozen.undo()
    assert repr(frozen) == "Frozen(ResNet: no longer in force)"
    assert frozen.report().startswith("no longer in force; this was the plan:\nResNet: ")


def test_lean_is_said() -> None:
    frozen = freeze_(resnet18(num_classes=5), "head-only", lean=True)
    assert repr(frozen).endswith(", lean)")
    said = f"lean: autograd keeps only what gradients need ({core_in_use()})"
    assert report(frozen).endswith(" ".join(said.split()))
