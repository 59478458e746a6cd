"""Each threshold of the staging rules is forced: another value moves the stages of some model."""

from __future__ import annotations

import importlib
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from freezekit.model.loading import load_backbone
from freezekit.staging.stages import stage_model
from tests.sampled import exhaustive

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit.staging.stages import Staging

    Model = str | Callable[[], nn.Module]


class Block(nn.Module):
    """Two convolutions."""

    def __init__(self, wide_in: int, wide_out: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(wide_in, wide_out, 3, stride, 1)
        self.second = nn.Conv2d(wide_out, wide_out, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu()).relu()  # type: ignore[no-any-return]  # Any


class Perceptron(nn.Sequential):
    """Two linear layers."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))


def unpadded() -> nn.Module:
    """Return convolutions that take the border off: 24x24 to 22x22 leaves 84 % of it."""
    first = [nn.Conv2d(4 if at else 1, 4, 3) for at in range(4)]
    last = [nn.Conv2d(4, 8, 3), nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*first, nn.MaxPool2d(2), *last, nn.Linear(8, 10))


def strided_chain_and_block() -> nn.Module:
    """Return three convolutions that are stages of their own, and one block."""
    chain = [nn.Conv2d(4 if at else 3, 4, 3, 2, 1) for at in range(3)]
    tail = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)]
    return nn.Sequential(*chain, Block(4, 4, 2), *tail)


def two_convolutions_and_blocks() -> nn.Module:
    """Return a stem of two layers, a third of the weight tensors before the classifier."""
    stem = [nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1)]
    tail = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)]
    return nn.Sequential(*stem, Block(4, 4), Block(4, 4, 2), *tail)


def list_that_pools() -> nn.Module:
    """Return a list of blocks with the pooling in it."""
    blocks = nn.Sequential(Block(8, 8), Block(8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(nn.Conv2d(3, 8, 3), blocks, nn.Linear(8, 10))


def convolutions_classify() -> nn.Module:
    """Return a classifier that pools 16x16 pixels, then convolves what is left."""
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 10, 1))
    return nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), Block(8, 8), Block(8, 8, 2), head)


def perceptrons_classify() -> nn.Module:
    """Return blocks that work on images, then a list of blocks that work on vectors."""
    blocks = [Block(3, 8), *(Block(8, 8, 2) for _ in range(5))]
    head = nn.Sequential(Perceptron(), Perceptron())
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head, nn.Linear(8, 10))


FORCED: list[tuple[str, object, Model, tuple[int, int] | None]] = [
    ("units.FALL", 0.9, unpadded, (28, 28)),
    ("units.FALL", 0.5, "timm:efficientvim_m1", None),
    ("units.FALL", 0.25, "torchvision:resnet18", None),
    ("extent.ASPECT_TOLERANCE", 0.0, "torchvision:resnet18", (100, 170)),
    ("extent.ASPECT_TOLERANCE", 1.0, "timm:sam2_hiera_tiny", None),
    ("cutting.STEM_LAYERS", 4, "torchvision:inception_v3", None),
    ("cutting.STEM_SHARE", Fraction(3, 4), strided_chain_and_block, None),
    ("cutting.STEM_SHARE", Fraction(1, 4), two_convolutions_and_blocks, None),
    ("classifier.POOLED_AREA", 4, "torchvision:mobilenet_v2", (32, 32)),
    ("classifier.POOLED_AREA", 10_000, convolutions_classify, (32, 32)),
    ("classifier.CLASSIFIER_SHARE", Fraction(2), list_that_pools, None),
    ("classifier.CLASSIFIER_SHARE", Fraction(0), perceptrons_classify, None),
    ("expanding.SEVERAL_LEVELS", 1, "timm:edgenext_xx_small", None),
    ("expanding.SEVERAL_LEVELS", 3, "timm:vitamin_small_224", None),
    ("expanding.SPANNING_SHARE", Fraction(2), "torchvision:alexnet", None),
    ("expanding.LONG_LIST_SHARE", Fraction(2), "timm:vitamin_small_224", None),
    ("grouping.MOST_STAGES", 12, "timm:legacy_xception", None),
    ("grouping.MOST_STAGES", 3, "timm:sequencer2d_s", None),
    ("anatomy.MATRIX_RANK", 1, "timm:deit_tiny_patch16_224", None),
    ("anatomy.MATRIX_RANK", 3, "timm:vit_tiny_patch16_224", None),
]


LARGE = "timm:sequencer2d_s", "timm:efficientvim_m1", "torchvision:inception_v3"


@pytest.mark.filterwarnings("ignore")  # the models' own
@pytest.mark.parametrize(
    ("constant", "value", "model", "pixels"),
    [exhaustive(case) if case[2] in LARGE else case for case in FORCED],
    ids=[f"{constant}={value}" for constant, value, *_ in FORCED],
)
def test_another_value_moves_the_stages(
    constant: str,
    value: object,
    model: Model,
    pixels: tuple[int, int] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = importlib.import_module(f"freezekit.staging.{constant.partition('.')[0]}")
    built = load_backbone(model, device="meta") if isinstance(model, str) else model()
    channels = next(m.in_channels for m in built.modules() if isinstance(m, nn.Conv2d))
    example = None if pixels is None else torch.zeros(2, channels, *pixels)
    before = stage_model(built, example)
    assert before.error is None
    monkeypatch.setattr(module, constant.partition(".")[2], value)
    after = stage_model(built, example)
    assert named(after) != named(before)


def named(staging: Staging) -> list[tuple[str, tuple[str, ...]]]:
    return [(stage.name, stage.parameters) for stage in staging.stages]
