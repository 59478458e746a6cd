"""How a model wants its images in an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezekit.data.eight_bits import in_8_bits
from freezekit.errors import ModelError
from freezekit.model.tasks import task_of
from freezekit.staging.input_shape import shape_taken

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL.Image import Image
    from torch import Tensor, nn

MODES = {1: "L", 3: "RGB"}
"""Of PIL, by the number of channels."""

RESIZED = 256 / 224
"""The usual size to which an image is resized, in parts of that to which it is cropped."""

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Those of ImageNet, which most weights expect."""


@dataclass(frozen=True)
class Preprocessing:
    """From an image to what a model takes.

    Attributes:
        transform: From an image of PIL, in the mode `mode`, to a tensor of `shape`.
        shape: (channels, height, width).
        text: What it does, and whose it is.
        mean, std: What it normalises by, one number a channel.
        interpolation: Of its resize, such as "bicubic".
    """

    transform: Callable[[Image], Tensor]
    shape: tuple[int, int, int]
    text: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str

    @property
    def mode(self) -> str:
        """Mode of PIL."""
        return MODES[self.shape[0]]

    def __call__(self, image: Image) -> Tensor:
        """Return an image as the model takes it.

        Raises:
            DataError: It has numbers of more than 16 bits, or floating-point ones.
        """
        return self.transform(in_8_bits(image).convert(self.mode))


def preprocessing_of(
    model: nn.Module, text: str = "", image_size: int | None = None
) -> Preprocessing:
    """Return the evaluation preprocessing of a model.

    A model of timm has a configuration, and the weights of torchvision's classifiers have
    transforms. Any other model gets a resize, a centre crop, and the mean and standard deviation
    of ImageNet.

    Args:
        model: The model.
        text: Its text, such as "torchvision:resnet18"; "" where there is none.
        image_size: In pixels, of the crop; the resize keeps its proportion. None: the model's own.

    Raises:
        ModelError: The model does not take images, or images of 1 or 3 channels.

    Example:
        >>> from freezekit import load_backbone
        >>> found = preprocessing_of(load_backbone("timm:resnet18", device="meta"))
        >>> found.shape, found.text[:41]
        ((3, 224, 224), 'resize 235 (bicubic), centre crop 224x224')
    """
    if task_of(model) != "image":
        raise ModelError(
            f"{text or type(model).__name__!r} takes {task_of(model)}, no single images"
        )
    if getattr(model, "pretrained_cfg", None):
        found = _of_timm(model, image_size)
    else:
        found = _of_torchvision(text, image_size) or _usual(model, text, image_size)
    if found.shape[0] not in MODES:
        raise ModelError(
            f"{text or type(model).__name__!r} takes images of {found.shape[0]} channels, and "
            "files have 1 or 3"
        )
    return found


def _of_timm(model: nn.Module, image_size: int | None) -> Preprocessing:
    from timm.data.config import resolve_model_data_config
    from timm.data.transforms_factory import create_transform

    config = resolve_model_data_config(model)
    if image_size is not None:
        config["input_size"] = (config["input_size"][0], image_size, image_size)
    transform = create_transform(**config, is_training=False)
    crop = "" if config["crop_mode"] == "center" else f", crop mode {config['crop_mode']}"
    size = getattr(transform.transforms[0], "size", config["input_size"][1:])
    return Preprocessing(
        transform,
        tuple(config["input_size"]),
        _text(
            size, config["interpolation"], config["input_size"][1:], config["mean"], config["std"]
        )
        + f"{crop} (the model's own in timm)",
        tuple(config["mean"]),
        tuple(config["std"]),
        config["interpolation"],
    )


def _of_torchvision(text: str, image_size: int | None) -> Preprocessing | None:
    from torchvision.models import get_model_weights

    library, _, name = text.partition(":")
    if library != "torchvision" or not list(weights := get_model_weights(name)):
        return None
    transforms = weights.DEFAULT.transforms
    own = transforms()
    if not hasattr(own, "crop_size"):  # of segmentation: images keep their aspect
        return None
    ((resized,), (crop,)) = own.resize_size, own.crop_size
    if image_size is not None:
        resized, crop = round(image_size * resized / crop), image_size
        own = transforms(crop_size=crop, resize_size=resized)
    said = _text(resized, own.interpolation.value, (crop, crop), own.mean, own.std)
    whose = f"torchvision's own of {weights.DEFAULT}"
    return Preprocessing(
        own,
        (len(own.mean), crop, crop),
        f"{said} ({whose})",
        tuple(own.mean),
        tuple(own.std),
        own.interpolation.value,
    )


def _usual(model: nn.Module, text: str, image_size: int | None) -> Preprocessing:
    from torchvision import transforms

    of_own = "own:model"  # any text that is of no library
    shape = shape_taken(model, text or of_own, 1, image_size)[1:]
    if len(shape) != 3:
        raise ModelError(
            f"{text or type(model).__name__!r} takes an input of shape {(1, *shape)}, no images"
        )
    channels, *crop = shape
    mean, std = (MEAN, STD) if channels == 3 else ((sum(MEAN) / 3,), (sum(STD) / 3,))
    resized = round(max(crop) * RESIZED)
    transform = transforms.Compose(
        [
            transforms.Resize(resized),
            transforms.CenterCrop(crop),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )
    said = _text(resized, "bilinear", crop, mean, std)
    whose = "the usual one, as the model names none"
    return Preprocessing(transform, shape, f"{said} ({whose})", mean, std, "bilinear")


def _text(
    size: int | Sequence[int],
    interpolation: str,
    crop: Sequence[int],
    mean: Sequence[float],
    std: Sequence[float],
) -> str:
    sizes = "x".join(map(str, [size] if isinstance(size, int) else size))
    numbers = [", ".join(f"{value:.4g}" for value in values) for values in (mean, std)]
    return (
        f"resize {sizes} ({interpolation}), centre crop {'x'.join(map(str, crop))}, "
        f"mean {numbers[0]}, std {numbers[1]}"
    )
