"""Which input a model takes, found from its forward and its layers, and synthetic batches of it."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor
from torch.utils._pytree import tree_map_only

from freezekit.errors import ModelError
from freezekit.model.nested import tensors

if TYPE_CHECKING:
    from collections.abc import Sequence

Task = Literal["image", "video", "flow", "detection"]
"""Kinds of input.

image: a tensor (batch, channels, height, width), whatever the output; video: (batch, channels,
frames, height, width); flow: two image tensors; detection: a list of images and, in training, a
list of targets, as torchvision's detection models take them.
"""

FRAMES = 16
"""Frames of a synthetic video: the number on which torchvision's video models were trained."""

_KEYPOINTS = 17  # keypoints of a person in COCO
_SIZES = {"image": 224, "video": 224, "flow": 224, "detection": 800}


def task_of(model: nn.Module) -> Task:
    """Return the kind of input that a model takes.

    The names of its forward's arguments decide: `images` and `targets` mean detection, `image1` and
    `image2` optical flow. Otherwise its first convolution decides: a 3d one means video.

    Example:
        >>> task_of(nn.Conv2d(3, 8, 3)), task_of(nn.Sequential(nn.Conv3d(3, 8, 3)))
        ('image', 'video')
    """
    model = getattr(model, "_orig_mod", model)  # the model that torch.compile wraps
    try:
        names = list(inspect.signature(model.forward).parameters)
    except (TypeError, ValueError):  # a forward that is not a Python function
        names = []
    if names[:2] == ["images", "targets"]:
        return "detection"
    if names[:2] == ["image1", "image2"]:
        return "flow"
    first = next((m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Conv3d))), None)
    return "video" if isinstance(first, nn.Conv3d) else "image"


def default_image_size(model: nn.Module, text: str = "") -> int:
    """Return the model's own input size in pixels.

    It is the first of these that exists: the last dimension of the model's `example_input`; the
    size in timm's `pretrained_cfg`; the crop of torchvision's default weights, for the model that
    `text` names; the size to which a detection model resizes; the model's `image_size`. Otherwise
    it is 224, or 800 for detection.

    Example:
        >>> from freezekit import load_backbone
        >>> default_image_size(load_backbone("timm:efficientnet_b1", device="meta"))
        240
        >>> text = "torchvision:inception_v3"
        >>> default_image_size(load_backbone(text, device="meta"), text)
        299
    """
    if (shape := _own_shape(model)) is not None:
        return shape[-1]
    for holder in ("pretrained_cfg", "default_cfg"):
        config = getattr(model, holder, None)
        size = getattr(config, "get", lambda _: None)("input_size")
        if size:
            return int(size[-1])
    if text.startswith("torchvision:"):
        from torchvision.models import get_model_weights

        weights = list(get_model_weights(text.partition(":")[2]))
        crop = getattr(weights[-1].transforms, "keywords", {}).get("crop_size") if weights else None
        crop = crop[-1] if isinstance(crop, (tuple, list)) else crop
        if isinstance(crop, int):
            return crop
    resized = getattr(getattr(model, "transform", None), "min_size", None)
    size = resized[-1] if isinstance(resized, tuple) else getattr(model, "image_size", None)
    return size if isinstance(size, int) else _SIZES[task_of(model)]


def input_shape(model: nn.Module, batch_size: int, image_size: int) -> tuple[int, ...]:
    """Return the shape of a batch of images or videos that a model takes.

    The number of channels is that of timm's configuration, otherwise three. For a model with an
    `example_input`, the shape is that of the example, with another batch size.

    Raises:
        ModelError: The model's `example_input` has another size, or cannot be used.

    Example:
        >>> from freezekit import load_backbone
        >>> input_shape(load_backbone("torchvision:r3d_18", device="meta"), 2, 112)
        (2, 3, 16, 112, 112)
    """
    if (shape := _own_shape(model)) is not None:
        if image_size != shape[-1]:
            raise ModelError(
                f"{type(model).__name__} has an example_input of shape {shape}, which says what it "
                f"takes: an image size of {image_size} does not apply"
            )
        return (batch_size, *shape[1:])
    config = getattr(model, "pretrained_cfg", None)
    size = getattr(config, "get", lambda _: None)("input_size")
    channels = int(size[0]) if size else 3
    frames = (FRAMES,) if task_of(model) == "video" else ()
    return (batch_size, channels, *frames, image_size, image_size)


def make_inputs(model: nn.Module, shape: Sequence[int]) -> tuple[Any, ...]:
    """Return random arguments for the model's forward in train mode, on its device, in its dtype.

    The values are drawn from torch's global random state.

    Args:
        model: The model. Device and dtype are those of its first parameter.
        shape: As `input_shape` returns it; both images of optical flow have this shape. For a model
            with an `example_input` only the batch size is used: rows of the example are repeated.

    Example:
        >>> from freezekit import load_backbone
        >>> (clips,) = make_inputs(load_backbone("torchvision:r3d_18"), (1, 3, 4, 32, 32))
        >>> clips.shape
        torch.Size([1, 3, 4, 32, 32])
    """
    task = task_of(model)
    parameter = next(model.parameters(), torch.empty(0))
    dtype = parameter.dtype if parameter.is_floating_point() else torch.get_default_dtype()

    if (own := own_input(model)) is not None:
        return _batch_of(own, shape[0], parameter)

    def images() -> Tensor:
        return torch.randn(*shape, dtype=dtype, device=parameter.device)

    if task == "flow":
        return images(), images()
    if task == "detection":
        targets = [_target(model, shape, parameter.device) for _ in range(shape[0])]
        return list(images()), targets
    return (images(),)


def own_input(model: nn.Module) -> tuple[Any, ...] | None:
    """Return the arguments that a model's `example_input` gives, None where it has none.

    It is a tensor, a tuple of arguments, or a dict of keyword arguments. Lightning's name,
    `example_input_array`, works too.

    Raises:
        ModelError: It holds no tensor, or does not fit the forward.

    Example:
        >>> model = nn.Embedding(100, 8)
        >>> model.example_input = torch.ones(2, 7, dtype=torch.int64)
        >>> [tokens.shape for tokens in own_input(model)]
        [torch.Size([2, 7])]
    """
    for name in ("example_input", "example_input_array"):
        given = getattr(model, name, None)
        if given is None:
            continue
        if isinstance(given, dict):
            try:
                bound = inspect.signature(model.forward).bind(**given)
            except TypeError as error:
                raise ModelError(f"{type(model).__name__}.{name} does not fit: {error}") from error
            given = bound.args
        given = given if isinstance(given, tuple) else (given,)
        if next(tensors(given), None) is None:
            raise ModelError(
                f"{type(model).__name__}.{name} is {given[0]!r}, expected a tensor, a tuple of "
                "arguments or a dict of keyword arguments with tensors"
            )
        return given
    return None


def _own_shape(model: nn.Module) -> tuple[int, ...] | None:
    """Return the shape of the first tensor in the model's `example_input`."""
    own = own_input(model)
    return None if own is None else tuple(next(tensors(own)).shape)


def _batch_of(own: tuple[Any, ...], batch: int, like: Tensor) -> tuple[Any, ...]:
    """Return the model's `example_input` with another batch size, on the device of a parameter."""
    size = next(tensors(own)).shape[:1]

    def sized(tensor: Tensor) -> Tensor:
        rows = [i % size[0] for i in range(batch)] if size and tensor.shape[:1] == size else None
        if like.is_meta or isinstance(like, FakeTensor):
            shape = tensor.shape if rows is None else (batch, *tensor.shape[1:])
            return torch.zeros(shape, dtype=tensor.dtype, device=like.device)
        return (tensor if rows is None else tensor[rows]).detach().clone().to(like.device)

    return tree_map_only(Tensor, sized, own)  # type: ignore[no-any-return]  # torch has no type


def _target(model: nn.Module, shape: Sequence[int], device: torch.device) -> dict[str, Tensor]:
    """Return a target with one object in the middle of an image, with labels of every kind."""
    height, width = shape[-2:]
    box = [0.25 * width, 0.25 * height, 0.75 * width, 0.75 * height]
    predictor = getattr(getattr(model, "roi_heads", None), "keypoint_predictor", None)
    last = getattr(predictor, "kps_score_lowres", None)
    points = last.out_channels if isinstance(last, nn.ConvTranspose2d) else _KEYPOINTS
    mask = torch.zeros(1, height, width, dtype=torch.uint8, device=device)
    mask[:, height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = 1
    middle = torch.tensor([width / 2, height / 2, 1.0], device=device)
    return {
        "boxes": torch.tensor([box], device=device),
        "labels": torch.ones(1, dtype=torch.int64, device=device),
        "masks": mask,
        "keypoints": middle.expand(1, points, 3),
    }
