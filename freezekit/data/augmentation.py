"""What a training does to images at random."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Literal

    from freezekit.data.preprocessing import Preprocessing

SCALE = (0.35, 1.0)
"""Parts of an image that a crop takes. Trainings of ImageNet over hundreds of epochs begin at 0.08,
which often misses the object in the few epochs of a fine-tuning; fastai's Imagenette takes 0.35."""


def training_preprocessing(
    own: Preprocessing, augment: Literal["standard", "none"] = "standard"
) -> Preprocessing:
    """Return how a model takes its images in a training.

    "standard" is a random crop of 35 to 100 % of the area with an aspect ratio of 3/4 to 4/3,
    resized to the model's size with the model's interpolation, and a horizontal flip of every
    second image; colours are not changed. Where a mirrored image is another class, as with digits,
    take "none", which is the evaluation preprocessing.

    Args:
        own: Of the model, as `preprocessing_of` returns it.
        augment: "standard" or "none".

    Example:
        >>> from freezekit import load_backbone
        >>> from freezekit.data.preprocessing import preprocessing_of
        >>> own = preprocessing_of(load_backbone("timm:resnet18", device="meta"))
        >>> training_preprocessing(own).text[:56]
        'random crop of 35 to 100 % to 224x224 (bicubic), random '
        >>> training_preprocessing(own, "none") is own
        True
    """
    if augment == "none":
        return own
    from torchvision import transforms

    size = own.shape[1:]
    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(
                size, scale=SCALE, interpolation=transforms.InterpolationMode(own.interpolation)
            ),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(own.mean, own.std),
        ]
    )
    low, high = (round(part * 100) for part in SCALE)
    numbers = [", ".join(f"{value:.4g}" for value in values) for values in (own.mean, own.std)]
    text = (
        f"random crop of {low} to {high} % to {'x'.join(map(str, size))} ({own.interpolation}), "
        f"random flip, mean {numbers[0]}, std {numbers[1]}"
    )
    return replace(own, transform=transform, text=text)
