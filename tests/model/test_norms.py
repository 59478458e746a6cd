"""Norm layers are told by their type, whatever they are called."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import pytest
import timm.layers as tl
import torch
from timm.layers.grn import GlobalResponseNorm
from timm.layers.norm_act import FrozenBatchNormAct2d
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torchvision.models.convnext import LayerNorm2d
from torchvision.models.quantization import resnet18
from torchvision.ops import FrozenBatchNorm2d

from freezekit import Backbone, load_backbone
from freezekit.model.norms import norm_kind, statistics_of

if TYPE_CHECKING:
    from collections.abc import Callable

TRACKED = {"running_mean", "running_var", "num_batches_tracked"}


@pytest.mark.parametrize(
    ("make", "kind", "statistics"),
    [
        (nn.BatchNorm1d, "batch", TRACKED),
        (nn.BatchNorm3d, "batch", TRACKED),
        (nn.SyncBatchNorm, "batch", TRACKED),
        (partial(nn.BatchNorm2d, track_running_stats=False), "batch", set()),
        (tl.BatchNormAct2d, "batch", TRACKED),
        (tl.SyncBatchNormAct, "batch", TRACKED),
        (FrozenBatchNorm2d, "batch", {"running_mean", "running_var"}),
        (FrozenBatchNormAct2d, "batch", {"running_mean", "running_var"}),
        (nn.InstanceNorm2d, "instance", set()),
        (partial(nn.InstanceNorm1d, track_running_stats=True), "instance", TRACKED),
        (partial(nn.GroupNorm, 2), "group", set()),
        (partial(tl.GroupNormAct, num_groups=2), "group", set()),
        (tl.GroupNorm1, "group", set()),
        (nn.LayerNorm, "layer", set()),
        (LayerNorm2d, "layer", set()),
        (tl.LayerNormAct2d, "layer", set()),
        (nn.RMSNorm, "rms", set()),
        (tl.RmsNorm, "rms", set()),
        (tl.RmsNorm2d, "rms", set()),
        (tl.RmsNormAct2d, "rms", set()),
        (partial(tl.RmsNorm, affine=False), "rms", set()),
        (tl.EvoNorm2dB0, "evo", {"running_var"}),
        (tl.EvoNorm2dB1, "evo", {"running_var"}),
        (tl.EvoNorm2dS0, "evo", set()),
        (tl.EvoNorm2dS1, "evo", set()),
        (tl.FilterResponseNormTlu2d, "filter response", set()),
        (tl.FilterResponseNormAct2d, "filter response", set()),
        (GlobalResponseNorm, "other", set()),
        (tl.SimpleNorm2d, "other", set()),
    ],
)
def test_a_norm_is_known_by_its_type(
    make: Callable[[int], nn.Module], kind: str, statistics: set[str]
) -> None:
    norm = make(32)
    assert norm_kind(norm) == kind
    assert set(statistics_of(norm)) == statistics


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.PReLU(8),
        lambda: tl.LayerScale(8),
        lambda: tl.ConvNormAct(3, 8),
        lambda: tl.NormMlpClassifierHead(8, 3),
        lambda: tl.BlurPool2d(8),
        lambda: tl.ScaledStdConv2d(3, 8, 3),
        lambda: nn.Sequential(nn.LayerNorm(8)),
    ],
)
def test_what_only_sounds_or_looks_like_a_norm_is_none(make: Callable[[], nn.Module]) -> None:
    assert norm_kind(make()) is None


def test_norms_of_weights_are_no_norm_layers() -> None:
    model = nn.Sequential(weight_norm(nn.Linear(2, 2)), spectral_norm(nn.Linear(2, 2)))
    assert Backbone(model).norms == ()


def test_names_of_ones_own_classes_tell_and_statistics_do() -> None:
    class My_RMSNorm(nn.Module):  # noqa: N801
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(2))

    class Mine(My_RMSNorm):
        pass

    class InplaceAbn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))
            self.register_buffer("running_mean", torch.zeros(2))
            self.register_buffer("running_var", torch.ones(2))

    class Normalize(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(3))

    class LayerNormalization(My_RMSNorm):  # the nearest name tells
        pass

    model = nn.Sequential(My_RMSNorm(), Mine(), InplaceAbn(), Normalize(), LayerNormalization())
    found = {norm.name: norm for norm in Backbone(model).norms}
    assert {name: norm.kind for name, norm in found.items()} == {
        "0": "rms",
        "1": "rms",
        "2": "batch",
        "4": "layer",
    }
    assert found["2"].parameters == ("2.weight",)
    assert found["2"].statistics == ("2.running_mean", "2.running_var")


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("timm:regnety_002", {"batch": 44}),  # fused
        ("timm:levit_128s", {"batch": 52}),  # 1d, and 2d in the stem
        ("timm:ese_vovnet39b_evos", {"evo": 39}),
        ("timm:resnetv2_50d_frn", {"filter response": 51}),
        ("timm:resnet50_gn", {"group": 53}),
        ("timm:convnextv2_atto", {"layer": 17, "other": 12}),
        ("timm:coatnet_0_224", {"batch": 16, "layer": 15}),
        ("timm:mobilenetv5_300m", {"rms": 184}),
        ("timm:nf_resnet26", {}),
        ("torchvision:raft_large", {"batch": 15, "instance": 15}),
        ("torchvision:mc3_18", {"batch": 20}),  # 3d
        ("torchvision:fcos_resnet50_fpn", {"batch": 53, "group": 8}),
        ("torchvision:quantized_mobilenet_v2", {"batch": 52}),
    ],
)
def test_models_of_the_zoo(text: str, kinds: dict[str, int]) -> None:
    norms = Backbone(load_backbone(text, device="meta")).norms
    assert Counter[str](norm.kind for norm in norms) == kinds
    assert all(bool(norm.statistics) == (norm.kind == "batch") for norm in norms)


def test_a_model_prepared_for_quantization_keeps_its_batch_norms() -> None:
    model = resnet18(weights=None, quantize=False).train()
    model.fuse_model(is_qat=True)
    assert len(Backbone(model).norms) == 20


def test_shared_and_tied_norms_are_listed_once() -> None:
    norm, other = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    other.weight = norm.weight
    found = Backbone(nn.Sequential(norm, norm, other)).norms
    assert [(n.name, n.parameters) for n in found] == [
        ("0", ("0.weight", "0.bias")),
        ("2", ("2.bias",)),
    ]
