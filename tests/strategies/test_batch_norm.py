"""batch-norm: every batch norm, by type."""

from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING

import pytest
import torch
from timm.layers import EvoNorm2dB0, FilterResponseNormTlu2d
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from freezekit import FreezekitWarning, PlanError, freeze_, load_backbone, plan

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("torchvision:resnet50", 53),
        ("torchvision:mobilenet_v3_large", 46),
        ("torchvision:efficientnet_b0", 49),
        ("torchvision:densenet121", 121),
        ("torchvision:vgg16_bn", 13),
        ("timm:efficientnet_b0", 49),  # fused norm and activation
        ("timm:densenet121", 121),
        ("timm:levit_128s", 48),  # 1d
    ],
)
def test_it_finds_all_of_them(name: str, count: int) -> None:
    model = load_backbone(name, device="meta")
    decided = plan(model, "batch-norm")
    norms = {n for n, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    assert len(norms) >= count
    assert decided.eval_modules == norms
    assert len(decided.frozen) == 2 * len(norms)


def test_3d_sync_and_subclasses_count() -> None:
    class Mine(nn.BatchNorm1d):
        pass

    net = nn.Sequential(nn.BatchNorm3d(2), nn.SyncBatchNorm(2), Mine(2), nn.Linear(2, 2))
    assert plan(net, "batch-norm").eval_modules == {"0", "1", "2"}


def test_statistics_live_freezes_the_weights_alone() -> None:
    model = load_backbone("torchvision:resnet18")
    frozen = freeze_(model, "batch-norm:statistics=live")
    assert not frozen.plan.eval_modules
    before = model.bn1.running_mean.clone()
    model.train()(torch.randn(2, 3, 32, 32))
    assert not torch.equal(before, model.bn1.running_mean)


def test_train_only_trains_norms_and_head() -> None:
    model = load_backbone("torchvision:resnet18", device="meta")
    decided = plan(model, "batch-norm:train=only,statistics=live")
    trained = {n for n, _ in model.named_parameters()} - decided.frozen
    assert {
        "bn1.weight",
        "layer1.0.bn1.bias",
        "layer2.0.downsample.1.weight",
        "fc.weight",
    } < trained
    assert not any("conv" in name for name in trained)
    assert "conv1" in decided.eval_modules
    assert "bn1" not in decided.eval_modules
    assert "bn1" in plan(model, "batch-norm:train=only").eval_modules


@pytest.mark.parametrize(
    ("name", "norms"),
    [
        ("torchvision:vit_b_16", "LayerNorm"),
        ("timm:resnetv2_50d_evos", "EvoNorm2dS0"),
        ("timm:resnetv2_50d_frn", "FilterResponseNormTlu2d"),
        ("timm:resnet50_gn", "GroupNorm"),
        ("torchvision:raft_small", "InstanceNorm2d"),
    ],
)
def test_a_model_whose_norms_keep_no_statistics_is_refused(name: str, norms: str) -> None:
    model = load_backbone(name, device="meta")
    message = f"has no batch norm or other norm that keeps .* its norms are {norms}"
    with pytest.raises(PlanError, match=message):
        plan(model, "batch-norm")


def test_a_model_without_norms_is_refused() -> None:
    with pytest.raises(PlanError, match=r"keeps running statistics$"):
        plan(load_backbone("torchvision:vgg11", device="meta"), "batch-norm")


def test_it_freezes_only_norms_that_keep_statistics() -> None:
    net = nn.Sequential(
        EvoNorm2dB0(4),
        nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
        nn.BatchNorm2d(4),
        nn.BatchNorm2d(4, track_running_stats=False),
        nn.GroupNorm(2, 4),
        FilterResponseNormTlu2d(4),
        nn.InstanceNorm2d(4, affine=True),
        nn.Linear(4, 4),
    )
    decided = plan(net, "batch-norm")
    assert decided.eval_modules == {"0", "1", "2"}
    assert {name.partition(".")[0] for name in decided.frozen} == {"0", "1", "2"}
    assert "0.v" in decided.frozen
    assert decided.notes == (
        "batch-norm: 1 evo norm and 1 instance norm and 1 batch norm found by type",
        "batch-norm: without running statistics, not frozen: 1 batch norm",
    )


def test_norms_that_are_frozen_by_their_class_are_counted_and_have_nothing_to_train() -> None:
    model = load_backbone("torchvision:resnet18", device="meta", norm_layer=FrozenBatchNorm2d)
    decided = plan(model, "batch-norm")
    assert not decided.frozen
    assert decided.notes[1] == "batch-norm: 20 of them have no weights of their own to train"
    with pytest.warns(FreezekitWarning, match="only the head is trained"):
        decided = plan(model, "batch-norm:train=only")
    assert {n for n, _ in model.named_parameters()} - decided.frozen == {"fc.weight", "fc.bias"}


def synced() -> nn.Module:
    return nn.SyncBatchNorm.convert_sync_batchnorm(load_backbone("torchvision:resnet18"))


def evo_b() -> nn.Module:
    return load_backbone("timm:test_efficientnet", norm_layer="evonormb0")


def instance_tracked() -> nn.Module:
    norm = partial(nn.InstanceNorm2d, affine=True, track_running_stats=True)
    return load_backbone("torchvision:resnet18", norm_layer=norm)


def model_of(text: str) -> Callable[[], nn.Module]:
    return partial(load_backbone, text)


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        pytest.param(model_of("torchvision:resnet18"), (2, 3, 64, 64), id="2d"),
        pytest.param(model_of("timm:resnet26t"), (2, 3, 64, 64), id="2d-timm"),
        pytest.param(model_of("timm:densenet121"), (2, 3, 64, 64), id="fused-densenet"),
        pytest.param(model_of("timm:regnety_002"), (2, 3, 64, 64), id="fused-regnet"),
        pytest.param(model_of("timm:efficientnet_b0"), (2, 3, 64, 64), id="fused-efficientnet"),
        pytest.param(model_of("timm:levit_128s"), (2, 3, 224, 224), id="1d"),
        pytest.param(model_of("torchvision:r3d_18"), (2, 3, 4, 32, 32), id="3d"),
        pytest.param(synced, (2, 3, 64, 64), id="sync"),
        pytest.param(evo_b, (2, 3, 64, 64), id="evo-batch"),
        pytest.param(instance_tracked, (2, 3, 64, 64), id="instance"),
    ],
)
def test_a_training_step_leaves_frozen_norms_and_all_that_they_compute(
    build: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    model = build()
    untouched = copy.deepcopy(model).eval()
    inputs = torch.randn(shape)
    with torch.no_grad():
        before = untouched(inputs)
    types = [type(module) for module in model.modules()]

    frozen = freeze_(model, "batch-norm")
    optimizer = torch.optim.SGD(frozen.param_groups(lr=0.01, weight_decay=0.1), momentum=0.9)
    for _ in range(2):
        model.train()(inputs).square().mean().backward()
        optimizer.step()

    kept, trained = untouched.state_dict(), model.state_dict()
    assert list(trained) == list(kept)
    assert [type(module) for module in model.modules()] == types
    norms = [norm for norm in frozen.backbone.norms if norm.statistics]
    tensors = [name for norm in norms for name in (*norm.parameters, *norm.statistics)]
    assert tensors
    assert all(torch.equal(trained[name], kept[name]) for name in tensors)
    others = {name: kept[name] for name in kept.keys() - set(tensors)}
    assert any(not torch.equal(trained[name], kept[name]) for name in others)
    model.load_state_dict(others, strict=False)  # the rest put back, nothing else is different
    with torch.no_grad():
        assert torch.equal(model.eval()(inputs), before)
