"""What each kind of model takes, and that it takes what is made for it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from freezekit.errors import ModelError
from freezekit.model.loading import load_backbone
from freezekit.model.tasks import default_image_size, input_shape, make_inputs, task_of


@pytest.mark.parametrize(
    ("name", "task", "size"),
    [
        ("r3d_18", "video", 112),
        ("swin3d_t", "video", 224),
        ("raft_small", "flow", 224),
        ("fasterrcnn_mobilenet_v3_large_320_fpn", "detection", 320),
        ("fasterrcnn_resnet50_fpn", "detection", 800),
        ("deeplabv3_mobilenet_v3_large", "image", 224),
        ("quantized_inception_v3", "image", 299),
    ],
)
def test_torchvisions_tasks(name: str, task: str, size: int) -> None:
    model = load_backbone(f"torchvision:{name}", device="meta")
    assert task_of(model) == task
    assert default_image_size(model, f"torchvision:{name}") == size


def test_a_forward_without_a_signature_takes_images() -> None:
    class Odd(nn.Module):
        forward = print  # type: ignore[assignment]  # a built-in function has no signature

    assert task_of(Odd()) == "image"


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("keypointrcnn_resnet50_fpn", 64),
        ("maskrcnn_resnet50_fpn", 64),
        ("ssdlite320_mobilenet_v3_large", 64),
        ("raft_small", 128),
        ("mc3_18", 32),
    ],
)
def test_models_train_on_what_is_made_for_them(name: str, size: int) -> None:
    model = load_backbone(f"torchvision:{name}", image_size=size).train()
    output = model(*make_inputs(model, input_shape(model, 2, size)))
    assert output is not None


def test_inputs_have_the_type_and_place_of_the_model() -> None:
    model = load_backbone("torchvision:resnet18", device="meta").to(torch.bfloat16)
    (images,) = make_inputs(model, (2, 3, 32, 32))
    assert (images.dtype, images.device.type) == (torch.bfloat16, "meta")


def test_detection_models_are_told_their_size() -> None:
    model = load_backbone("torchvision:retinanet_resnet50_fpn", image_size=128, device="meta")
    assert (model.transform.min_size, model.transform.max_size) == ((128,), 128)


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, one: torch.Tensor, other: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        return self.layer(one + other) * scale


@pytest.mark.parametrize("name", ["example_input", "example_input_array"])
def test_a_model_may_say_what_it_takes(name: str) -> None:
    model = Two()
    one, other = torch.ones(2, 4), torch.zeros(2, 4)
    for given in ((one, other), {"other": other, "one": one}):
        setattr(model, name, given)
        assert default_image_size(model) == 4
        assert input_shape(model, 3, 4) == (3, 4)
        inputs = make_inputs(model, (3, 4))
        assert [tuple(tensor.shape) for tensor in inputs] == [(3, 4), (3, 4)]
        assert [float(tensor.sum()) for tensor in inputs] == [12.0, 0.0]
        on_meta = make_inputs(model.to("meta"), (3, 4))
        assert all(tensor.is_meta for tensor in on_meta)
        model = Two()


def test_an_example_that_cannot_be_used_is_refused() -> None:
    model = Two()
    model.example_input = {"third": torch.ones(2, 4)}
    with pytest.raises(ModelError, match=r"Two\.example_input does not fit: missing"):
        make_inputs(model, (2, 4))
    model.example_input = "an image"
    with pytest.raises(ModelError, match="'an image', expected a tensor"):
        make_inputs(model, (2, 4))
    model.example_input = (torch.ones(2, 4), torch.ones(2, 4))
    with pytest.raises(ModelError, match="an image size of 64 does not apply"):
        input_shape(model, 2, 64)
