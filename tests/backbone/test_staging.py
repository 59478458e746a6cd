from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from freezekit.backbone.inputs import observe
from freezekit.backbone.loading import load_backbone
from freezekit.backbone.records import Stage
from freezekit.backbone.staging import check_stages, find_stages
from freezekit.backbone.trace import meta_copy
from freezekit.errors import StagingError


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


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_families(name: str) -> None:
    model = load_backbone(f"torchvision:{name}", device="meta")
    stages = find_stages(model)
    assert [stage.name for stage in stages] == TORCHVISION[name]
    check_partition(model, stages)


@pytest.mark.parametrize("name", TIMM)
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


@pytest.mark.parametrize("name", SPREAD.split())
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


@pytest.mark.parametrize("name", PREFIXES)
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


class Sliced(nn.Module):
    """Slices a ResNet as the blog post does."""

    def __init__(self) -> None:
        super().__init__()
        parts = list(torchvision.models.resnet50().children())
        self.convnet_1 = nn.Sequential(*parts[:5])
        self.convnet_2 = nn.Sequential(parts[5])
        self.convnet_3 = nn.Sequential(parts[6])
        self.convnet_4 = nn.Sequential(parts[7])
        self.linear = nn.Linear(2048, 64)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        layers = []
        for part in (self.convnet_1, self.convnet_2, self.convnet_3, self.convnet_4):
            layers.append(x := part(x))
        feature = x.mean((2, 3))
        return feature, self.linear(feature), layers


class Flat(nn.Module):
    """One activation for all, functional pooling, and the classifier registered first."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 10)
        self.relu = nn.ReLU()
        for i, (wide_in, wide_out) in enumerate([(3, 16), (16, 32), (32, 32), (32, 64)], 1):
            setattr(self, f"conv{i}", nn.Conv2d(wide_in, wide_out, 3, padding=1))
            setattr(self, f"bn{i}", nn.BatchNorm2d(wide_out))

    def forward(self, x: Tensor) -> Tensor:
        pool = nn.functional.max_pool2d
        x = pool(self.relu(self.bn1(self.conv1(x))), 2)
        x = self.relu(self.bn2(self.conv2(x)))
        x = pool(self.relu(self.bn3(self.conv3(x))), 2)
        x = self.relu(self.bn4(self.conv4(x)))
        return self.fc(x.mean((2, 3)))


class Wrapper(nn.Module):
    def __init__(self, backbone: nn.Module, width: int) -> None:
        super().__init__()
        self.backbone, self.fc = backbone, nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.backbone(x))


class Features(Wrapper):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.backbone.forward_features(x)[:, 0])


def test_a_sliced_resnet() -> None:
    stages = find_stages(Sliced())
    names = ["stem", "convnet_1.4", "convnet_2", "convnet_3", "convnet_4", "head"]
    assert [stage.name for stage in stages] == names
    assert stages[0].parameters == ("convnet_1.0.weight", "convnet_1.1.weight", "convnet_1.1.bias")
    assert stages[-1].parameters == ("linear.weight", "linear.bias")


def test_a_flat_net_by_resolution() -> None:
    stages = find_stages(Flat())
    assert [stage.name for stage in stages] == ["stem", "conv2-conv3", "conv4", "head"]
    assert stages[0].parameters == ("conv1.weight", "conv1.bias", "bn1.weight", "bn1.bias")
    assert stages[-1].modules == ("fc",)
    assert all("relu" not in stage.modules for stage in stages)  # it serves all of them


def test_wrappers() -> None:
    layers = body_of("backbone.layer", 1, 2, 3, 4)
    model = Wrapper(torchvision.models.resnet18(), 1000)
    assert [stage.name for stage in find_stages(model)] == layers
    assert find_stages(model)[-1].modules == ("backbone.avgpool", "backbone.fc", "fc")
    blocks = body_of("backbone.blocks.", 0, 1, 2)
    for wrapper in (Wrapper, Features):
        vit = timm.create_model("vit_tiny_patch16_224", num_classes=0, depth=3)
        assert [stage.name for stage in find_stages(wrapper(vit, 192))] == blocks
    sequential = nn.Sequential(timm.create_model("resnet18", num_classes=0), nn.Linear(512, 3))
    assert [stage.name for stage in find_stages(sequential)] == body_of("0.layer", 1, 2, 3, 4)
    parallel = nn.DataParallel(torchvision.models.resnet18())
    assert [stage.name for stage in find_stages(parallel)] == body_of("module.layer", 1, 2, 3, 4)
    compiled = torch.compile(torchvision.models.resnet18())
    assert [stage.name for stage in find_stages(compiled)] == body_of("_orig_mod.layer", 1, 2, 3, 4)


def test_small_images_keep_the_last_stage_in_the_body() -> None:
    stages = find_stages(torchvision.models.resnet18(), torch.zeros(2, 3, 32, 32))
    assert [stage.name for stage in stages] == LAYERS


def test_chains_of_layers() -> None:
    chain = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.Linear(8, 8), nn.Linear(8, 2))
    stages = find_stages(chain, torch.zeros(2, 3, 4, 4))
    assert [(stage.name, stage.parameters[0]) for stage in stages] == [
        ("stem", "1.weight"),
        ("2", "2.weight"),
        ("head", "3.weight"),
    ]
    two = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    assert [stage.kind for stage in find_stages(two)] == ["stem", "head"]


def test_dilated_stages_stay_apart() -> None:
    for name in ("convnext_atto", "resnet26"):
        with torch.device("meta"):
            model = timm.create_model(name, output_stride=16)
        assert [s.name for s in find_stages(model)] == (STAGES if "next" in name else LAYERS)


def test_without_a_classifier_the_head_is_there_and_the_projection_is_a_neck() -> None:
    with torch.device("meta"):
        model = timm.create_model("efficientnet_b0", num_classes=0)
    *_, neck, head = find_stages(model)
    assert (neck.name, neck.kind) == ("conv_head", "neck")
    assert head.parameters == ()
    assert "global_pool" in head.modules


def test_layers_used_in_turns_are_one_stage() -> None:
    class Turns(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.one, self.two = (nn.Conv2d(w, 4, 1) for w in (3, 4, 4))
            self.fc = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            for _ in range(3):
                x = self.two(self.one(x))
            return self.fc(x.mean((2, 3)))

    stages = find_stages(Turns())
    assert [stage.modules for stage in stages] == [("stem",), ("one", "two"), ("fc",)]


def test_a_parameter_that_comes_in_while_a_stage_is_at_work_belongs_to_it() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor, bias: Tensor) -> Tensor:
            return self.two(self.one(x) + bias)

    class Biased(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(4, 1, 1))
            self.stem, self.fc = nn.Conv2d(3, 4, 1), nn.Linear(4, 2)
            self.blocks = nn.ModuleList(Block() for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            for block in self.blocks:
                x = block(x, self.bias)
            return self.fc(x.mean((2, 3)))

    stages = {stage.name: stage for stage in find_stages(Biased())}
    assert "bias" in stages["blocks.0"].parameters


def test_tied_parameters_are_named_once() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Flatten(), nn.Linear(12, 2))
    model[1].weight = model[0].weight
    stages = find_stages(model, torch.zeros(1, 3, 2, 2))
    names = [name for stage in stages for name in stage.parameters]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    assert "1.weight" not in names


def test_unused_parameters_are_refused_by_name() -> None:
    model = Flat()
    model.aux = nn.Linear(3, 3)
    with pytest.raises(StagingError, match=r"'aux\.weight', 'aux\.bias'.*freezekit_stages"):
        find_stages(model)


def test_one_layer_is_refused() -> None:
    with pytest.raises(StagingError, match=r"Linear has no layers that follow.*'weight', 'bias'"):
        find_stages(nn.Linear(4, 2), torch.zeros(2, 4))


NET = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
GOOD = (
    Stage("stem", "stem", ("0.weight", "0.bias")),
    Stage(
        "head",
        "head",
        ("1.weight", "1.bias"),
        ("1.running_mean", "1.running_var", "1.num_batches_tracked"),
    ),
)


def test_given_stages_that_are_a_partition_pass() -> None:
    assert check_stages(NET, list(GOOD)) == GOOD


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        (GOOD[:1], "expected 'stem', then 'body'"),
        (GOOD[::-1], "expected 'stem', then 'body'"),
        ((GOOD[0], Stage("stem", "head", GOOD[1].parameters)), "twice: 'stem'"),
        ((GOOD[0], *GOOD), "one 'stem' and one 'head'"),
        ((GOOD[0], Stage("head", "head", ("1.weight",))), "parameters: in no stage: '1.bias'"),
        ((GOOD[0], Stage("head", "head", ("1.w",))), "unknown: '1.w'"),
        (
            (Stage("stem", "stem", ("0.bias", *GOOD[0].parameters)), GOOD[1]),
            "named twice: '0.bias'",
        ),
        ((GOOD[0], Stage("head", "head", GOOD[1].parameters)), "buffers: in no stage: '1.num_b"),
        ((GOOD[0], replace(GOOD[1], modules=("2",))), "modules: unknown: '2'"),
    ],
)
def test_given_stages_that_are_none_are_refused(stages: tuple[Stage, ...], said: str) -> None:
    with pytest.raises(StagingError, match=re.escape(said)):
        check_stages(NET, stages)
