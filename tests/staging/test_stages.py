from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from typing import ClassVar

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from freezekit.errors import StagingError
from freezekit.model.records import Stage
from freezekit.staging.partition import check_stages
from freezekit.staging.stages import find_stages

LAYERS = ["stem", "layer1", "layer2", "layer3", "layer4", "head"]
STAGES = ["stem", "stages.0", "stages.1", "stages.2", "stages.3", "head"]


def body_of(prefix: str, *names: str | int) -> list[str]:
    return ["stem", *(f"{prefix}{name}" for name in names), "head"]


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


class Trunk(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        widths = (3, 8, 16, 32)
        self.a, self.b, self.c = (
            nn.Sequential(nn.Conv2d(i, o, 3, 2, 1), nn.BatchNorm2d(o), nn.ReLU())
            for i, o in pairwise(widths)
        )
        self.fc = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> object:
        return self.fc(self.c(self.b(self.a(x))).mean((2, 3)))


def parameters_of(stages: tuple[Stage, ...]) -> dict[str, set[str]]:
    return {s.name: {name.partition(".")[0] for name in s.parameters} for s in stages}


class Caches(Trunk):
    GRIDS: ClassVar[dict[int, Tensor]] = {}

    def forward(self, x: Tensor) -> object:
        size = x.shape[-1]
        if size not in self.GRIDS:
            self.GRIDS[size] = torch.linspace(0, 1, size, device=x.device)
        return super().forward(x + self.GRIDS[size])


def test_what_a_class_caches_is_not_left_on_meta() -> None:
    images = torch.zeros(2, 3, 32, 32)
    find_stages(Caches(), images)
    assert Caches.GRIDS == {}
    Caches()(images)


def test_a_siamese_network_keeps_the_stages_of_its_trunk() -> None:
    class Siamese(Trunk):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return super().forward(x) - super().forward(y)

    images = torch.zeros(2, 3, 32, 32)
    stages = find_stages(Siamese(), (images, images))
    assert [stage.name for stage in stages] == ["stem", "b", "c", "head"]
    assert stages[1].modules == ("b", "b.0", "b.1", "b.2")  # called twice, held all the same


def test_a_classifier_called_half_way_belongs_to_the_head() -> None:
    class Deep(Trunk):
        def __init__(self) -> None:
            super().__init__()
            self.aux = nn.Sequential(nn.Linear(8, 5), nn.ReLU())

        def forward(self, x: Tensor) -> object:
            x = self.a(x)
            aux = self.aux(x.mean((2, 3)))
            return self.fc(self.c(self.b(x)).mean((2, 3))), aux

    stages = find_stages(Deep())
    assert parameters_of(stages) == {"stem": {"a"}, "b": {"b"}, "c": {"c"}, "head": {"fc", "aux"}}
    assert "aux.1" in stages[-1].modules


def test_a_teacher_without_gradients_is_no_trunk() -> None:
    class Distilled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.teacher, self.student = Trunk(), Trunk()

        def forward(self, x: Tensor) -> tuple[object, object]:
            with torch.no_grad():
                target = self.teacher(x)
            return self.student(x), target

    stages = find_stages(Distilled())
    assert [stage.name for stage in stages] == ["stem", "student.b", "student.c", "head"]
    assert not any(name.startswith("teacher") for s in stages[1:] for name in s.parameters)


def test_what_refines_again_and_again_is_no_neck() -> None:
    stages = {s.name: s for s in find_stages(torchvision.models.optical_flow.raft_small())}
    assert "update_block" in stages["head"].modules
    assert stages["context_encoder.conv"].kind == "neck"


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
