"""The input of a model of one's own, as every command finds it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from freezekit import ModelError, load_backbone
from freezekit.staging.input_shape import shape_taken
from freezekit.staging.observing import usual_input


class Reads(nn.Module):
    """Takes images of 32 pixels alone, and needs their values."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 32 * 32, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return self.fc((x if x.sum().item() > 0 else -x).flatten(1))


def sized(channels: int, pixels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * pixels * pixels, 5)
    )


@pytest.mark.parametrize(
    ("model", "image_size", "shape"),
    [
        (sized(3, 32), None, (8, 3, 32, 32)),
        (sized(1, 28), None, (8, 1, 28, 28)),
        (sized(12, 96), None, (8, 12, 96, 96)),
        (sized(1, 48), 48, (8, 1, 48, 48)),
        (nn.Sequential(nn.Flatten(), nn.Linear(784, 5)), None, (8, 1, 28, 28)),
        (nn.Sequential(nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1)), None, (8, 4, 224, 224)),
        (nn.Sequential(nn.Conv3d(3, 4, 3), nn.AdaptiveAvgPool3d(1)), 64, (8, 3, 16, 64, 64)),
        (Reads(), None, (8, 3, 32, 32)),
    ],
)
def test_the_shape_is_found(
    model: nn.Module, image_size: int | None, shape: tuple[int, ...]
) -> None:
    assert shape_taken(model, "my.py:build", 8, image_size) == shape
    if image_size is None:
        assert usual_input(model, training=False)[0].shape[1:] == shape[1:]


def test_a_size_that_nothing_fits_is_left_to_the_forward() -> None:
    assert shape_taken(sized(3, 48), "my.py:build", 2) == (2, 3, 224, 224)
    assert shape_taken(sized(3, 48), "my.py:build", 2, 40) == (2, 3, 40, 40)


def test_models_of_libraries_say_their_size() -> None:
    model = load_backbone("torchvision:inception_v3", device="meta")
    assert shape_taken(model, "torchvision:inception_v3", 2) == (2, 3, 299, 299)


def test_an_example_says_the_shape() -> None:
    model = sized(3, 48)
    model.example_input = torch.zeros(1, 3, 48, 48)
    assert shape_taken(model, "my.py:build", 4) == (4, 3, 48, 48)
    with pytest.raises(ModelError, match="an image size of 32 does not apply"):
        shape_taken(model, "my.py:build", 4, 32)


def test_the_model_and_the_random_state_are_as_before() -> None:
    model = sized(3, 32)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    shape_taken(model, "my.py:build", 2)
    assert torch.equal(torch.rand(3), expected)
    assert model.training
