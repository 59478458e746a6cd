from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from freezekit import plan
from freezekit.model.copies import meta_copy
from freezekit.model.loading import load_backbone
from freezekit.staging.observing import observe
from freezekit.staging.stages import find_stages
from tests.sampled import sampled

if TYPE_CHECKING:
    from freezekit.model.records import Stage


def body_of(prefix: str, *names: str | int) -> list[str]:
    return ["stem", *(f"{prefix}{name}" for name in names), "head"]


def with_neck(names: list[str], neck: str) -> list[str]:
    return [*names[:-1], neck, names[-1]]


LAYERS = body_of("layer", 1, 2, 3, 4)
PAIRS = body_of("features.", "1", "2-3", "4-5", "6-7")
STAGES = body_of("stages.", 0, 1, 2, 3)

TORCHVISION = {
    "resnet18": LAYERS,
    "resnext50_32x4d": LAYERS,
    "wide_resnet50_2": LAYERS,
    "convnext_tiny": PAIRS,
    "swin_t": PAIRS,
    "swin_v2_t": PAIRS,
    "efficientnet_b0": with_neck(body_of("features.", *range(1, 8)), "features.8"),
    "efficientnet_v2_s": with_neck(body_of("features.", *range(1, 7)), "features.7"),
    "mobilenet_v2": with_neck(
        body_of("features.", "1", "2-3", "4-6", "7-13", "14-17"), "features.18"
    ),
    "mobilenet_v3_small": with_neck(body_of("features.", "1", "2-3", "4-8", "9-11"), "features.12"),
    "regnet_y_400mf": body_of("trunk_output.block", 1, 2, 3, 4),
    "densenet121": body_of("features.denseblock", 1, 2, 3, 4),
    "vgg11": body_of("features.", "2-4", "5-9", "10-14", "15-19"),
    "vgg16_bn": body_of("features.", "3-5", "6-12", "13-22", "23-32", "33-42"),
    "vit_b_32": body_of("encoder.layers.encoder_layer_", *range(12)),
    "maxvit_t": body_of("blocks.", 0, 1, 2, 3),
    "shufflenet_v2_x1_0": with_neck(body_of("stage", 2, 3, 4), "conv5"),
    "mnasnet0_5": with_neck(body_of("layers.", *range(8, 14)), "layers.14-15"),
    "googlenet": body_of("inception", "3a-inception3b", "4a-inception4e", "5a-inception5b"),
    "inception_v3": body_of("Mixed_", "5b-Mixed_5d", "6a-Mixed_6e", "7a-Mixed_7c"),
    "quantized_resnet18": LAYERS,
    "quantized_googlenet": body_of(
        "inception", "3a-inception3b", "4a-inception4e", "5a-inception5b"
    ),
    "fcn_resnet50": body_of("backbone.layer", 1, 2, 3, 4),
    "deeplabv3_resnet50": body_of("backbone.layer", 1, 2, 3, 4),
    "lraspp_mobilenet_v3_large": with_neck(
        body_of("backbone.", "1", "2-3", "4-6", "7-15"), "backbone.16"
    ),
    "r3d_18": LAYERS,
    "mc3_18": LAYERS,
    "r2plus1d_18": LAYERS,
    "s3d": body_of("features.", "3", "4-6", "7-12", "13-15"),
    "mvit_v1_b": body_of("blocks.", "0", "1-2", "3-13", "14-15"),
    "swin3d_t": body_of("features.", "0", "1-2", "3-4", "5-6"),
    "raft_small": with_neck(
        [
            *body_of("feature_encoder.layer", 1, 2, 3)[:-1],
            *body_of("context_encoder.layer", 1, 2, 3)[1:],
        ],
        "context_encoder.conv",
    ),
    "fasterrcnn_resnet50_fpn": with_neck(
        body_of("backbone.body.layer", 1, 2, 3, 4), "backbone.fpn"
    ),
    "fasterrcnn_mobilenet_v3_large_320_fpn": with_neck(
        body_of("backbone.body.", "1", "2-3", "4-6", "7-12", "13-16"), "backbone.fpn"
    ),
    "retinanet_resnet50_fpn": with_neck(body_of("backbone.body.layer", 1, 2, 3, 4), "backbone.fpn"),
    "ssd300_vgg16": body_of(
        "backbone.",
        *(f"features.{blocks}" for blocks in ("2-3", "4-8", "9-15", "16-22")),
        *(f"extra.{at}" for at in range(5)),
    ),
    "ssdlite320_mobilenet_v3_large": body_of(
        "backbone.",
        *(f"features.{blocks}" for blocks in ("0.1", "0.2-3", "0.4-6", "0.7-13", "1")),
        *(f"extra.{at}" for at in range(4)),
    ),
}

TIMM = {
    "resnet26d": LAYERS,
    "convnext_atto": STAGES,
    "efficientnet_b0": with_neck(body_of("blocks.", *range(7)), "conv_head"),
    "tf_efficientnetv2_b0": with_neck(body_of("blocks.", *range(6)), "conv_head"),
    "mobilenetv3_small_100": with_neck(body_of("blocks.", *range(5)), "blocks.5-conv_head"),
    "mobilenetv4_conv_small": with_neck(body_of("blocks.", *range(4)), "blocks.4-conv_head"),
    "regnety_002": body_of("s", 1, 2, 3, 4),
    "densenet121": body_of("features.denseblock", 1, 2, 3, 4),
    "vgg11": with_neck(body_of("features.", "2-4", "5-9", "10-14", "15-19"), "pre_logits"),
    "swin_tiny_patch4_window7_224": body_of("layers.", 0, 1, 2, 3),
    "vit_tiny_patch16_224": body_of("blocks.", *range(12)),
    "deit3_small_patch16_224": body_of("blocks.", *range(12)),
    "eva02_tiny_patch14_224": body_of("blocks.", *range(12)),
    "mixer_s32_224": body_of("blocks.", *range(8)),
    "maxvit_tiny_tf_224": with_neck(STAGES, "head.pre_logits"),
    "hgnetv2_b0": with_neck(STAGES, "head.last_conv"),
    "twins_svt_small": body_of("blocks.", 0, 1, 2, 3),
    "cait_xxs24_224": [
        *body_of("blocks.", *range(24))[:-1],
        *body_of("blocks_token_only.", 0, 1)[1:],
    ],
    "hiera_tiny_224": body_of("blocks.", "0", "1-2", "3-9", "10-11"),
    "xception41": body_of("blocks.", "0", "1", "2-10", "11-12"),
    "hrnet_w18_small": with_neck(
        ["stem", "layer1", "stage2", "stage3", "stage4", "head"], "incre_modules.0-final_layer"
    ),
    "vit_tiny_r_s16_p8_224": body_of("blocks.", *range(12)),
    "vit_srelpos_small_patch16_224": body_of("blocks.", *range(12)),
    "vit_base_patch32_siglip_256": body_of("blocks.", *range(12)),  # it pools by attention
}


def check_partition(model: nn.Module, stages: tuple[Stage, ...]) -> None:
    parameters = Counter(name for stage in stages for name in stage.parameters)
    buffers = Counter(name for stage in stages for name in stage.buffers)
    assert parameters == Counter(name for name, _ in model.named_parameters())
    assert buffers == Counter(name for name, _ in model.named_buffers())
    assert all(stage.parameters for stage in stages if stage.kind != "head")
    of_modules = {module: stage for stage in stages for module in stage.modules}
    assert "" not in of_modules
    for stage in stages:  # a module's parameters lie in the module's stage
        for name in stage.parameters:
            owner = name.rpartition(".")[0]
            assert of_modules.get(owner, stage) is stage, (owner, stage.name)


def check_order(model: nn.Module, stages: tuple[Stage, ...]) -> None:
    """No module of a stage is still at work when a later stage's parameters come in."""
    trace = observe(model)
    begins = [
        min((trace.uses[p][0] for p in stage.parameters if p in trace.uses), default=None)
        for stage in stages
    ]
    ends = [
        max((call.stop for call in trace.calls if call.module in set(stage.modules)), default=0)
        for stage in stages
    ]
    for at, end in enumerate(ends):
        later = [begin for begin in begins[at + 1 :] if begin is not None]
        assert all(end < begin for begin in later), stages[at].name


@pytest.mark.parametrize("name", sampled(TORCHVISION, every=8))
def test_torchvision_families(name: str) -> None:
    model = load_backbone(f"torchvision:{name}", device="meta")
    stages = find_stages(model)
    assert [stage.name for stage in stages] == TORCHVISION[name]
    check_partition(model, stages)


@pytest.mark.parametrize("name", sampled(TIMM, every=4))
def test_timm_families(name: str) -> None:
    model = load_backbone(f"timm:{name}", device="meta")
    stages = find_stages(model)
    assert [stage.name for stage in stages] == TIMM[name]
    check_partition(model, stages)
    check_order(model, stages)


BOUNDARIES = {
    "torchvision:resnet18": ("bn1.bias", "layer1.0.conv1.weight", "layer4.1.bn2.bias", "fc.weight"),
    "torchvision:densenet121": (
        "features.norm0.bias",
        "features.denseblock1.denselayer1.norm1.weight",
        "features.denseblock4.denselayer16.conv2.weight",
        "features.norm5.weight",
    ),
    "torchvision:swin_t": (
        "features.0.2.bias",
        "features.1.0.norm1.weight",
        "features.7.1.mlp.3.bias",
        "norm.weight",
    ),
    "torchvision:vit_b_32": (
        "encoder.pos_embedding",
        "encoder.layers.encoder_layer_0.ln_1.weight",
        "encoder.layers.encoder_layer_11.mlp.3.bias",
        "encoder.ln.weight",
    ),
    "torchvision:convnext_tiny": (
        "features.0.1.bias",
        "features.1.0.layer_scale",
        "features.7.2.block.5.bias",
        "classifier.0.weight",
    ),
    "timm:vit_tiny_patch16_224": (
        "patch_embed.proj.bias",
        "blocks.0.norm1.weight",
        "blocks.11.mlp.fc2.bias",
        "norm.weight",
    ),
}


@pytest.mark.parametrize("name", BOUNDARIES)
def test_boundaries_of_stem_body_and_head(name: str) -> None:
    stages = find_stages(load_backbone(name, device="meta"))
    stem, first, *_, last, head = stages
    found = (stem.parameters[-1], first.parameters[0], last.parameters[-1], head.parameters[0])
    assert found == BOUNDARIES[name]


def test_downsampling_goes_with_the_stage_that_follows() -> None:
    for name, second, starts in (
        ("torchvision:convnext_tiny", "features.2-3", "features.2.0.weight"),
        ("torchvision:swin_t", "features.2-3", "features.2.reduction.weight"),
        ("torchvision:densenet121", "features.denseblock2", "features.transition1.norm.weight"),
        ("timm:twins_svt_small", "blocks.1", "patch_embeds.1.proj.weight"),
        ("timm:hrnet_w18_small", "stage2", "transition1.0.0.weight"),
    ):
        stages = {stage.name: stage for stage in find_stages(load_backbone(name, device="meta"))}
        assert stages[second].parameters[0] == starts


def test_bare_parameters_go_where_they_are_used() -> None:
    stages = find_stages(load_backbone("timm:cait_xxs24_224", device="meta"))
    of = {name: stage.name for stage in stages for name in stage.parameters}
    assert of["pos_embed"] == "stem"
    assert of["cls_token"] == "blocks_token_only.0"
    distilled = find_stages(load_backbone("timm:deit_tiny_distilled_patch16_224", device="meta"))
    assert {"cls_token", "dist_token", "pos_embed"} < set(distilled[0].parameters)
    assert {"head.weight", "head_dist.weight", "norm.weight"} < set(distilled[-1].parameters)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_classifiers_belong_to_the_head(name: str) -> None:
    head = find_stages(load_backbone(f"torchvision:{name}", device="meta"))[-1]
    tops = {parameter.split(".")[0] for parameter in head.parameters}
    assert tops in ({"aux1", "aux2", "fc"}, {"AuxLogits", "fc"})
    assert {"aux1.conv.bn.running_mean", "AuxLogits.conv0.bn.running_mean"} & set(head.buffers)


def test_a_token_of_masked_patches_goes_with_what_it_is_used_in() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch = nn.Conv2d(3, 8, 16, 16)
            self.mask = nn.Parameter(torch.ones(8))
            self.blocks = nn.Sequential(*(nn.TransformerEncoderLayer(8, 2, 16) for _ in range(3)))
            self.head = nn.Linear(8, 5)

        def forward(self, images: Tensor) -> Tensor:
            tokens = self.patch(images).flatten(2).transpose(1, 2)
            if self.training:
                tokens = torch.cat([tokens[:, :5], self.mask.expand_as(tokens[:, 5:])], dim=1)
            return self.head(self.blocks(tokens).mean(1))  # type: ignore[no-any-return]  # modules return Any

    stages = find_stages(Masked())
    assert [stage.name for stage in stages] == body_of("blocks.", 0, 1, 2)
    assert stages[0].parameters == ("mask", "patch.weight", "patch.bias")


def test_detection_freezes_what_torchvision_calls_trainable_layers() -> None:
    theirs = resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=2
    )
    frozen = {f"backbone.{n}" for n, p in theirs.named_parameters() if not p.requires_grad}
    model = load_backbone("torchvision:fasterrcnn_resnet50_fpn", device="meta")
    for parameter in list(model.parameters())[:100]:
        parameter.requires_grad_(False)  # whatever its defaults froze
    assert plan(model, "first-n-stages:n=2", thaw=True).frozen == frozen
    assert {parameter.split(".")[2] for parameter in frozen} == {"conv1", "bn1", "layer1", "layer2"}


def test_resolutions_are_told() -> None:
    def told(name: str) -> list[tuple[int, ...] | None]:
        return [s.resolution for s in find_stages(load_backbone(name, device="meta"))]

    assert told("torchvision:resnet18") == [*((s, s) for s in (56, 56, 28, 14, 7)), ()]
    assert told("timm:vit_tiny_patch16_224") == [(197,)] * 13 + [()]
    assert told("torchvision:r3d_18")[1:3] == [(16, 112, 112), (8, 56, 56)]


def test_modules_without_parameters_are_placed_by_when_they_run() -> None:
    stages = find_stages(load_backbone("torchvision:resnet18", device="meta"))
    assert stages[0].modules == ("conv1", "bn1", "relu", "maxpool")
    assert stages[-1].modules == ("avgpool", "fc")
    assert "layer1.0.relu" in stages[1].modules
    stages = find_stages(load_backbone("timm:vit_tiny_patch16_224", device="meta"))
    assert "pos_drop" in stages[0].modules
    assert "head_drop" in stages[-1].modules
    assert "blocks.3.drop_path1" in stages[4].modules
    assert all("blocks" not in stage.modules for stage in stages)


def test_statistics_go_with_their_norm() -> None:
    stages = find_stages(load_backbone("torchvision:resnet18", device="meta"))
    assert stages[0].buffers == ("bn1.running_mean", "bn1.running_var", "bn1.num_batches_tracked")
    assert stages[-1].buffers == ()


SPREAD = (
    "bat_resnext26ts beit_base_patch16_224 botnet26t_256 coat_tiny convit_tiny "
    "convmixer_768_32 crossvit_tiny_240 cspresnet50 csatv2 davit_tiny dla34 dpn68 "
    "edgenext_xx_small efficientformer_l1 efficientvit_b0 fastvit_t8 focalnet_tiny_srf "
    "gcvit_xxtiny ghostnet_100 gmixer_24_224 inception_v4 lcnet_050 legacy_seresnet18 "
    "levit_128s mobilevit_xxs mvitv2_tiny nest_tiny nfnet_f0 pit_ti_224 poolformer_s12 "
    "pvt_v2_b0 repvgg_a0 resmlp_12_224 rexnet_100 selecsls42b tiny_vit_5m_224 "
    "tnt_s_legacy_patch16_224 tresnet_m visformer_tiny volo_d1_224 xcit_nano_12_p16_224 "
)


@pytest.mark.parametrize("name", sampled(SPREAD.split(), every=16))
def test_a_spread_of_timm_is_complete_disjoint_and_in_order(name: str) -> None:
    model = load_backbone(f"timm:{name}", device="meta")
    stages = find_stages(model)
    kinds = [stage.kind for stage in stages]
    assert kinds.count("body") >= (1 if name == "coat_tiny" else 2)  # its branches share weights
    check_partition(model, stages)
    check_order(model, stages)


PREFIXES = {
    "torchvision:resnet18": {},
    "torchvision:densenet121": {},
    "torchvision:mobilenet_v3_small": {},
    "torchvision:vgg11": {},
    "torchvision:swin_t": {},
    "torchvision:regnet_y_400mf": {},
    "timm:vit_tiny_patch16_224": {"depth": 3},
    "timm:convnext_atto": {},
    "timm:efficientnet_b0": {},
    "timm:cait_xxs24_224": {"depth": 2},
    "timm:twins_svt_small": {},
}


@pytest.mark.parametrize("name", sampled(PREFIXES, every=8))
def test_a_frozen_prefix_is_clean(name: str) -> None:
    model = meta_copy(load_backbone(name, device="meta", **PREFIXES[name]))
    stages = find_stages(model)
    parameters = dict(model.named_parameters())
    stage_of = {module: at for at, stage in enumerate(stages) for module in stage.modules}
    frozen, live = 0, []

    def note(at: int, module_name: str):  # type: ignore[no-untyped-def]
        def hook(_module: nn.Module, _args: object, output: object) -> None:
            tensors = [t for t in tree_leaves(output) if isinstance(t, Tensor)]
            if at < frozen and any(t.requires_grad for t in tensors):
                live.append(module_name)

        return hook

    for module_name, module in model.named_modules():
        if module_name in stage_of:
            module.register_forward_hook(note(stage_of[module_name], module_name))
    size = getattr(model, "default_cfg", {"input_size": (3, 224, 224)})["input_size"]
    for frozen in range(1, len(stages)):
        for at, stage in enumerate(stages):
            for parameter in stage.parameters:
                parameters[parameter].requires_grad_(at >= frozen)
        output = model(torch.empty(2, *size, device="meta"))
        assert live == [], frozen
        assert output.requires_grad
