"""Images are prepared as the libraries prepare them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from torch import nn
from torchvision.models import Inception_V3_Weights, get_model
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

from freezekit import ModelError, load_backbone
from freezekit.data.preprocessing import MEAN, STD, preprocessing_of
from freezekit.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Array = NDArray[np.uint16]

PHOTO = Image.effect_noise((90, 70), 80).convert("RGB")


def test_timm() -> None:
    model = timm.create_model("test_vit")
    theirs = create_transform(**resolve_model_data_config(model), is_training=False)
    found = preprocessing_of(model)
    assert torch.equal(found(PHOTO), theirs(PHOTO))
    assert found.shape == (3, 160, 160)
    assert found.text == (
        "resize 168 (bicubic), centre crop 160x160, mean 0.5, 0.5, 0.5, std 0.5, 0.5, 0.5 "
        "(the model's own in timm)"
    )
    assert preprocessing_of(model, "", 64)(PHOTO).shape == (3, 64, 64)


def test_torchvision() -> None:
    with torch.device("meta"):
        model = get_model("inception_v3", init_weights=False)
    text = "torchvision:inception_v3"
    found = preprocessing_of(model, text)
    assert torch.equal(found(PHOTO), Inception_V3_Weights.DEFAULT.transforms()(PHOTO))
    assert found.text.startswith("resize 342 (bilinear), centre crop 299x299, mean 0.485,")
    smaller = preprocessing_of(model, text, 100)
    assert smaller(PHOTO).shape == (3, 100, 100)
    assert smaller.text.startswith("resize 114 ")


@pytest.mark.parametrize("text", ["torchvision:lraspp_mobilenet_v3_large", ""])
def test_models_that_name_none_get_the_usual_one(text: str) -> None:
    model = load_backbone(text, device="meta") if text else nn.Conv2d(3, 2, 3)
    found = preprocessing_of(model, text, 48)
    parts = (Resize(55), CenterCrop(48), ToTensor(), Normalize(MEAN, STD))
    assert torch.equal(found(PHOTO), Compose(parts)(PHOTO))
    assert found.text.endswith("(the usual one, as the model names none)")


def test_images_of_one_channel() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(2704, 10))
    found = preprocessing_of(model)
    assert found(PHOTO).shape == found.shape == (1, 28, 28)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("torchvision:r3d_18", "takes video, no single images"),
        ("torchvision:fasterrcnn_mobilenet_v3_large_fpn", "takes detection, no single images"),
    ],
)
def test_models_of_something_else_are_refused(name: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        preprocessing_of(load_backbone(name, device="meta"), name)


def test_models_of_other_channels_are_refused() -> None:
    with pytest.raises(ModelError, match="images of 4 channels, and files have 1 or 3"):
        preprocessing_of(nn.Conv2d(4, 2, 3))


LEVELS = np.arange(70 * 90, dtype=np.uint16).reshape(70, 90) * 10
"""Of an image of 16 bits."""


@pytest.mark.parametrize("suffix", ["png", "tiff", "pgm"])
@pytest.mark.parametrize("levels", [LEVELS, LEVELS // 250])
def test_images_of_16_bits_are_scaled(suffix: str, levels: Array, tmp_path: Path) -> None:
    Image.fromarray(levels).save(tmp_path / f"a.{suffix}")
    image = Image.open(tmp_path / f"a.{suffix}")
    assert image.mode in ("I;16", "I")
    expected = Image.fromarray((levels // 256).astype(np.uint8))
    found = preprocessing_of(nn.Conv2d(3, 2, 3), "", 48)
    assert torch.equal(found(image), found(expected))


def test_integers_of_8_bits_stay() -> None:
    found = preprocessing_of(nn.Conv2d(3, 2, 3), "", 48)
    assert torch.equal(found(PHOTO.convert("L").convert("I")), found(PHOTO.convert("L")))


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (Image.new("F", (8, 8), 0.5), "numbers are floating-point, of unknown range; save 8 or"),
        (Image.new("I", (8, 8), -3), "numbers are from -3 to -3; save 8 or 16 bits"),
        (Image.new("I", (8, 8), 70_000), "numbers are from 70000 to 70000; save 8 or 16 bits"),
    ],
)
def test_numbers_of_no_known_range_are_refused(image: Image.Image, said: str) -> None:
    with pytest.raises(DataError, match=said):
        preprocessing_of(nn.Conv2d(3, 2, 3), "", 48)(image)
