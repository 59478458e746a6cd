"""Datasets of the user's own: "path/to/file.py:function" or "package.module:function"."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch.utils.data import Subset

from freezekit.data.class_names import UNKNOWN, class_names, numbers_in_training
from freezekit.data.found import Found, Part
from freezekit.errors import DataError, ModelError, suggest
from freezekit.model.sources import import_source

if TYPE_CHECKING:
    from collections.abc import Sequence

FORMS = (
    "a function of your own is 'package.module:function' or 'path/to/file.py:function', and "
    "returns (train, val)"
)

Dataset = Any  # Any: has a length and is indexed
LABELS = ("targets", "labels", "_labels")
"""Attributes with the labels of all samples; torchvision's newer datasets have the last one."""

NO_LABEL = -1
"""Of a sample that cannot be read."""

PROBED = 16
"""Samples that are read to tell whether labels of an attribute are those of the samples."""


class UnreadableSampleError(DataError):
    """A dataset of the user's own raised for a sample."""


@dataclass(frozen=True)
class OwnSamples:
    """A dataset of the user's own.

    Attributes:
        dataset: As the user's function returned it.
        labels: The number of the class of each sample.
        name: "train" or "val", for messages.
        numbers: For each number of a class in the dataset, that in the training; () where they are
            the same.
    """

    dataset: Dataset
    labels: Sequence[int]
    name: str
    numbers: tuple[int, ...] = ()

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:  # Any: an image of PIL, or a tensor
        """Return a sample.

        Raises:
            DataError: The dataset raises, or gives something else.
        """
        image, label = read_sample(self.dataset, index, self.name)
        return image, _renumbered(label, self.numbers)


def find_own(text: str) -> Found:
    """Return the labelled images of the user's own function.

    If both datasets name their classes, those of the validation get the numbers that classes of
    these names have in the training.

    Raises:
        DataError: There is no such function, it raises, it does not return two datasets, or classes
            of the validation are not in the training.
    """
    train, val, source = _call(text)
    part, val_labels = part_of_dataset(train, "train"), _labels(val, "val")
    count = 1 + max(part.samples.labels, default=0)
    classes = class_names(train, count)
    val_classes = class_names(val, 1 + max(val_labels, default=0))
    numbers: tuple[int, ...] = ()
    pairs = zip(classes or (), val_classes or (), strict=False)
    if classes and val_classes and any(ours != theirs for ours, theirs in pairs):
        numbers = numbers_in_training(
            classes, val_classes, val_labels, train_name="train", val_name=f"val of {text!r}"
        )
    digest = sha256(Path(source).read_bytes()).hexdigest() if source else ""
    return Found(
        classes or tuple(map(str, range(count))),
        part,
        _part(val, val_labels, "val", numbers),
        source_digest=digest,
    )


def part_of_dataset(dataset: Dataset, name: str) -> Part:
    """Return the part of a dataset.

    Args:
        dataset: Has a length and is indexed.
        name: Of the part, for the names of samples.
    """
    return _part(dataset, _labels(dataset, name), name)


def _part(
    dataset: Dataset, labels: Sequence[int], name: str, numbers: tuple[int, ...] = ()
) -> Part:
    names = tuple(f"{name}[{index}]" for index in range(len(labels)))
    labels = tuple(_renumbered(label, numbers) for label in labels)
    return Part(OwnSamples(dataset, labels, name, numbers), names, (0,) * len(labels))


def _renumbered(label: int, numbers: tuple[int, ...]) -> int:
    if not numbers:
        return label
    return numbers[label] if 0 <= label < len(numbers) else UNKNOWN


def _call(text: str) -> tuple[Dataset, Dataset, str | None]:
    """Return both datasets, and the file of the function."""
    source, _, name = text.rpartition(":")
    try:
        module = import_source(text, source, FORMS)
    except ModelError as error:  # of any user's code
        raise DataError(str(error)) from error
    function = getattr(module, name, None)
    if not callable(function):
        known = [n for n, value in vars(module).items() if callable(value)]
        raise DataError(
            f"{source!r} has no function {name!r} (in {text!r}){suggest(name, known) or ';'} "
            f"{FORMS}"
        )
    try:
        found = function()
    except (Exception, SystemExit) as error:
        raise DataError(f"{text!r} failed: {type(error).__name__}: {error}") from error
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        what = f"{len(found)} values" if isinstance(found, (tuple, list)) else type(found).__name__
        raise DataError(f"{text!r} returned {what}, expected two datasets: (train, val)")
    for dataset, part in zip(found, ("train", "val"), strict=True):
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise DataError(
                f"{text!r} returned {type(dataset).__name__} for {part}, expected a dataset with a "
                "length and an index"
            )
    return found[0], found[1], getattr(module, "__file__", None)


def read_sample(dataset: Dataset, index: int, name: str) -> tuple[Any, int]:  # Any: as `Samples`
    """Return the image and the number of the class of a sample.

    Raises:
        UnreadableSampleError: The dataset raises.
        DataError: It gives something else.
    """
    try:
        found = dataset[index]
    except Exception as error:
        raise UnreadableSampleError(
            f"sample {index} of {name} cannot be read: {type(error).__name__}: {error}"
        ) from error
    if isinstance(found, dict) and {"image", "label"} <= found.keys():
        image, label = found["image"], found["label"]
    elif isinstance(found, (tuple, list)) and len(found) == 2:
        image, label = found
    else:
        raise DataError(
            f"sample {index} of {name} is of type {type(found).__name__}, expected (image, label) "
            "or a mapping with 'image' and 'label'"
        )
    floating = isinstance(image, torch.Tensor) and image.is_floating_point() and image.dim() == 3
    if not (floating or isinstance(image, Image.Image)):
        what = (
            f"a tensor of {image.dtype} and shape {tuple(image.shape)}"
            if isinstance(image, torch.Tensor)
            else f"of type {type(image).__name__}"
        )
        raise DataError(
            f"the image of sample {index} of {name} is {what}, expected an image of PIL, or a "
            "tensor of floating-point numbers (channels, height, width), normalised as the model "
            "takes it"
        )
    return image, _number(label, index, name)


def _number(label: Any, index: int, name: str) -> int:  # Any: of the user's
    try:
        number = int(label)
        if number == float(label) and number >= 0:
            return number
    except (TypeError, ValueError, RuntimeError):
        pass
    raise DataError(
        f"the label of sample {index} of {name} is {label!r:.60}, expected the number of a class, "
        "from 0"
    )


def _labels(dataset: Dataset, name: str) -> tuple[int, ...]:
    """Return the labels that an attribute has if those of samples are the same, else read all.

    That of a sample that cannot be read is `NO_LABEL` then.
    """
    count = len(dataset)
    known = _known_labels(dataset)
    if known is not None and len(known) == count:
        places = range(0, count, max(1, count // PROBED))
        if all(_label(dataset, place, name) in (known[place], NO_LABEL) for place in places):
            return tuple(_number(label, index, name) for index, label in enumerate(known))
    return tuple(_label(dataset, index, name) for index in range(count))


def _label(dataset: Dataset, index: int, name: str) -> int:
    try:
        return read_sample(dataset, index, name)[1]
    except UnreadableSampleError:
        return NO_LABEL  # the check of all images tells it


def _known_labels(dataset: Dataset) -> list[Any] | None:  # Any: of the user's
    """Return what the dataset itself says, through subsets as `random_split` makes them."""
    if isinstance(dataset, Subset):
        whole = _known_labels(dataset.dataset)
        return None if whole is None else [whole[index] for index in dataset.indices]
    if "label" in (getattr(dataset, "column_names", None) or ()):  # of Hugging Face
        return list(dataset["label"])
    for attribute in LABELS:
        found = getattr(dataset, attribute, None)
        if found is not None and hasattr(found, "__len__"):
            return found.tolist() if hasattr(found, "tolist") else list(found)
    return None
