"""batch-norm: every batch norm, by type."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from freezekit import PlanError, freeze_, load_backbone, plan


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
    assert decided.fixed == norms
    assert len(decided.frozen) == 2 * len(norms)


def test_3d_sync_and_subclasses_count() -> None:
    class Mine(nn.BatchNorm1d):
        pass

    net = nn.Sequential(nn.BatchNorm3d(2), nn.SyncBatchNorm(2), Mine(2), nn.Linear(2, 2))
    assert plan(net, "batch-norm").fixed == {"0", "1", "2"}


def test_statistics_live_freezes_the_weights_alone() -> None:
    model = load_backbone("torchvision:resnet18")
    frozen = freeze_(model, "batch-norm:statistics=live")
    assert not frozen.plan.fixed
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
    assert "conv1" in decided.fixed
    assert "bn1" not in decided.fixed
    assert "bn1" in plan(model, "batch-norm:train=only").fixed


def test_a_model_without_batch_norm_is_refused() -> None:
    model = load_backbone("torchvision:vit_b_16", device="meta")
    with pytest.raises(PlanError, match="VisionTransformer has no batch norm; its norms are Layer"):
        plan(model, "batch-norm")
