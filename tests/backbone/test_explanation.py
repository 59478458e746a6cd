"""Why the stages are as they are: what is said is what was decided."""

from __future__ import annotations

import pickle
from dataclasses import asdict

import pytest
import torch
import torchvision
from torch import Tensor, nn

from freezekit import Backbone, Stage, StagingError, load_backbone
from freezekit.backbone.explanation_text import explanation_text
from freezekit.staging import observing
from freezekit.staging.trace import Trace, trace_forward
from tests.sampled import sampled

MODELS = (
    "torchvision:resnet18",
    "torchvision:densenet121",
    "torchvision:googlenet",
    "timm:test_vit",
    "timm:hrnet_w18_small",
    "timm:coat_tiny",
    "timm:efficientnetv2_rw_t",
)


def view(text: str) -> Backbone:
    return Backbone(load_backbone(text, device="meta"))


@pytest.mark.filterwarnings("ignore")  # the models' own
@pytest.mark.parametrize("text", sampled(MODELS, every=3))
def test_what_is_explained_are_the_stages(text: str) -> None:
    backbone = view(text)
    told = backbone.explanation
    assert told.source == "rules"
    assert told.error == ""
    assert told.stages == tuple(stage.name for stage in backbone.stages)
    # Every parameter is counted once, in the stage that it is in, or is used in train mode only.
    late = {row.name for row in told.late}
    for stage in backbone.stages:
        held = sum(unit.elements for unit in told.units if unit.stage == stage.name)
        assert held == sum(backbone.parameters[n].numel for n in stage.parameters if n not in late)
    assert [group.name for group in told.groups if group.kind == "body"]
    assert all(group.because for group in told.groups if group.kind == "body")
    assert told.body_begin
    assert told.body_end
    for width in (70, 80):
        assert max(map(len, explanation_text(told, width).splitlines())) <= width


def section(backbone: Backbone, title: str) -> str:
    """Return the sentences under a title, on one line."""
    paragraphs = [p.splitlines() for p in backbone.explain().split("\n\n")]
    (found,) = [lines[1:] for lines in paragraphs if lines[0].startswith(title)]
    return " ".join(line.strip() for line in found)


def test_a_resnet_falls_in_resolution() -> None:
    backbone = view("torchvision:resnet18")
    assert section(backbone, "Where the body begins") == (
        "It begins with layer1: layer1 is the first list of blocks. It ends with layer4: layer4 is "
        "the last list of blocks before the classifier."
    )
    assert section(backbone, "Why a stage of the body begins").endswith(
        "layer4: the resolution falls from 14x14 to 7x7 at layer4."
    )
    assert section(backbone, "Modules opened") == "None."
    assert section(backbone, "Stages merged").startswith("None: no stage has an output")


def test_a_transformer_is_opened_to_its_blocks() -> None:
    backbone = view("timm:vit_tiny_patch16_224")
    assert section(backbone, "Modules opened") == (
        "blocks: it is the only list of blocks in the body."
    )
    rows = [line.split() for line in backbone.explain().splitlines()]
    assert ["blocks.0-11", "block", "12", "x", "444,864", "197", "tokens", "one", "each"] in rows
    assert section(backbone, "Why a stage of the body begins") == (
        "blocks.0: the body begins here. "
        "blocks.1 to blocks.11 (11): the resolution never falls in the body."
    )


def test_a_merge_names_the_parameter_and_its_consumer() -> None:
    backbone = view("timm:coat_tiny")
    (merge,) = backbone.explanation.merges
    assert merge.stages == ("serial_blocks2", "serial_blocks3", "serial_blocks4", "parallel_blocks")
    assert section(backbone, "Stages merged") == (
        "serial_blocks2, serial_blocks3, serial_blocks4, parallel_blocks became "
        f"{merge.result}: crpe2, in serial_blocks2, returns what depends on {merge.parameter}, in "
        "parallel_blocks."
    )
    assert merge.parameter in backbone.parameters
    assert "serial_blocks1, cpe1, crpe1: the forward uses their parameters in turns." in section(
        backbone, "Units joined"
    )


@pytest.mark.filterwarnings("ignore")  # the model's own
def test_what_only_train_mode_uses_is_told() -> None:
    told = section(view("torchvision:googlenet"), "Parameters that are used in train mode only")
    assert told.startswith("aux1.conv.conv.weight to aux1.fc2.bias (7): in head, because aux1 is ")
    token = Backbone(MaskToken())
    assert section(token, "Parameters that are used in train mode only") == (
        "token: in stem, because this stage is at work when train mode uses it."
    )


class MaskToken(nn.Sequential):
    """Adds a token to what its first layer returns, in train mode only."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 2, 3))
        self.register_parameter("token", nn.Parameter(torch.zeros(4, 1, 1)))

    def forward(self, x: Tensor) -> Tensor:
        x = self[0](x)
        x = x + self.token if self.training else x
        return self[2](self[1](x)).mean((2, 3))  # type: ignore[no-any-return]  # modules return Any


def test_a_necks_end_and_what_is_aside_are_told() -> None:
    model = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, min_size=64, max_size=64
    )
    ends = section(Backbone(model), "Where the body begins")
    assert "the model calls backbone.fpn a neck" in ends
    assert "A neck follows, up to backbone.fpn" in ends


def test_a_branch_is_told() -> None:
    class Branched(nn.Sequential):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            stem, block, early, last, late = self
            middle = block(stem(x))
            return early(middle.mean((2, 3))), late(last(middle).mean((2, 3)))

    parts = [nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 4, 3, 2), nn.Linear(4, 2)]
    net = Branched(*parts, nn.Conv2d(4, 4, 3, 2), nn.Linear(4, 2))
    ends = section(Backbone(net), "Where the body begins")
    assert "Beside the body: 2. Nothing later depends on it, so it is in head." in ends


class Circle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Dropout())
        self.second = nn.Conv2d(3, 3, 3, padding=1)
        self.fc = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(self.second(self.first[0](x)).mean((2, 3)))
        return self.first[1](y)  # type: ignore[no-any-return]  # modules return Any


def test_how_far_it_came_with_a_model_that_cannot_be_staged() -> None:
    backbone = Backbone(Circle())
    text = backbone.explain()
    assert text.startswith("Circle: how far its staging came\n")
    assert section(backbone, "Stages merged") == (
        "stem, second, head would be one stage, with none beside it: first.1, in stem, returns "
        "what depends on fc.weight, in head."
    )
    assert "no order that makes sense" in section(backbone, "Why it cannot be staged")
    with pytest.raises(StagingError, match="no order that makes sense"):
        _ = backbone.stages


def test_a_model_that_refuses_every_input_has_an_error_alone() -> None:
    told = Backbone(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8, 2))).explanation
    assert told.units == ()
    assert "refuses images" in told.error
    paragraphs = explanation_text(told).split("\n\n")
    assert [p.splitlines()[0] for p in paragraphs] == [
        "Sequential: how far its staging came",
        "Why it cannot be staged",
    ]


def test_stages_of_a_plugin_are_said_to_be_so() -> None:
    stages = [Stage("stem", "stem", ("0.weight",)), Stage("head", "head", ("1.weight",))]
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    backbone = Backbone(net, stager=lambda _: stages)
    assert backbone.explanation.source == "plugin"
    assert backbone.explain() == (
        "Sequential: why it has these 2 stages\n  stem, head\n\n"
        "A plugin's freezekit_stages hook named the stages; freezekit's own rules were\nnot asked."
    )


def test_one_forward_pass_serves_stages_and_explanation(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Trace] = []

    def traced(model: nn.Module, example_input: object) -> Trace:
        seen.append(trace_forward(model, example_input))
        return seen[-1]

    monkeypatch.setattr(observing, "trace_forward", traced)
    backbone = Backbone(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 2, 3)))
    _ = backbone.stages, backbone.explanation
    assert len(seen) == 1
    copied = pickle.loads(pickle.dumps(Backbone(torchvision.models.resnet18())))
    assert asdict(copied.explanation)["stages"][0] == "stem"
