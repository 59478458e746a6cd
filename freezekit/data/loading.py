"""Loads the images of a training from their text: a folder, or datasets of the user's own."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from freezekit.data.checking import find_unreadable, told
from freezekit.data.hugging_face import find_with_hugging_face
from freezekit.data.own_datasets import find_own
from freezekit.data.samples import FileSamples
from freezekit.data.split_folder import find_in_folder
from freezekit.data.splitting import stratified_split
from freezekit.data.training_data import TrainingData
from freezekit.errors import DataError, some

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from freezekit.data.found import Found, Part

FORMS = (
    "a folder with a folder of images for each class, such a folder in 'train' and in 'val', "
    "'imagefolder:FOLDER', or 'path/to/file.py:function' that returns (train, val)"
)

WHERE_TO_GET_IMAGES = (
    "Accuracies on images that are made up say nothing. For a try, a function with "
    "torchvision.datasets.OxfordIIITPet(root, download=True) or Flowers102 for train and val "
    "will do, or some 50 photos of your own for each class"
)

VAL_FRACTION = 0.2


def load_training_data(
    text: str | None,
    *,
    val_fraction: float | None = None,
    split_seed: int = 0,
    bad_images: Literal["error", "skip"] = "error",
    on_progress: Callable[[int, int], None] | None = None,
    workers: int = 0,
    skipped: Sequence[str] | None = None,
) -> TrainingData:
    """Load the images of a training and of its validation, without transforms.

    Each image is read once, so that one that cannot be read is told before the training.

    Args:
        text: A folder of class folders; a folder with "train" and "val" (or "valid", "validation",
            "test") of class folders; "imagefolder:FOLDER" for Hugging Face's `datasets`; or
            "path/to/file.py:function" and "package.module:function" for a function that returns
            datasets for training and for validation. Their samples are (image, label) or mappings
            with "image" and "label", the image of PIL or a tensor.
        val_fraction: The part of each class that is held out, where no split is given; None: 0.2.
        split_seed: Another one makes another split.
        bad_images: What becomes of images that cannot be read: an error that names them, or they
            are left out.
        on_progress: Is told how many images are read, and of how many.
        workers: Processes that read files for this check; 0: this one.
        skipped: Images that cannot be read, as `TrainingData.skipped` of an earlier call named
            them. They are left out, and no image is read.

    Raises:
        DataError: There is no such data, it has fewer than two classes, a class has no image, or
            too few for a split, validation classes are not trained, images cannot be read, or
            `val_fraction` is given beside a split.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for number in range(10):
        ...         path = Path(root) / ("cat" if number < 5 else "dog") / f"{number}.png"
        ...         path.parent.mkdir(exist_ok=True)
        ...         Image.new("RGB", (8, 8)).save(path)
        ...     data = load_training_data(root)
        >>> data.classes, len(data.train), len(data.val), data.split
        (('cat', 'dog'), 8, 2, 'made')
    """
    if val_fraction is not None and not 0 < val_fraction < 1:
        raise DataError(f"val_fraction is {val_fraction}, expected a number between 0 and 1")
    found = _find(text)
    if val_fraction is not None and found.val is not None:
        raise DataError(
            f"{text!r} has a split of its own, so that val_fraction has no meaning; leave it out"
        )
    val_fraction = VAL_FRACTION if val_fraction is None else val_fraction
    in_files = isinstance(found.train.samples, FileSamples)
    if skipped is None:
        bad = find_unreadable(found, on_progress, workers)
        if bad and bad_images == "error":
            raise told(bad, len(found.train) + len(found.val or ()))
        skipped = tuple(bad)
    found = found.without(skipped)
    _check_classes(str(text), found, skipped)
    train, val, notes = found.train, found.val, list(found.notes)
    if val is None:
        stay, held = stratified_split(train.samples.labels, val_fraction, split_seed, train.names)
        train, val = train.chosen(stay), train.chosen(held)
    else:
        notes += _notes_on_val(found.classes, val)
    if not in_files and isinstance(train.samples[0][0], Tensor):
        notes.append("images are tensors, which are taken as they are: they are not augmented")
    made = found.val is None
    return TrainingData(
        source=str(text),
        classes=found.classes,
        train=train.samples,
        val=val.samples,
        split="made" if made else "given",
        digest=_digest(found, train, val),
        val_fraction=val_fraction if made else None,
        split_seed=split_seed if made else None,
        skipped=tuple(skipped),
        notes=tuple(notes),
    )


def _find(text: str | None) -> Found:
    if not text:
        raise DataError(f"no images are given; expected {FORMS}. {WHERE_TO_GET_IMAGES}")
    kind, _, name = text.partition(":")
    if kind == "imagefolder" and name:
        return find_with_hugging_face(name)
    if Path(text).exists():
        return find_in_folder(text)
    source, _, function = text.rpartition(":")
    if source and function.isidentifier():
        return find_own(text)
    raise DataError(f"there is no folder {text!r}; expected {FORMS}. {WHERE_TO_GET_IMAGES}")


def _check_classes(text: str, found: Found, skipped: Sequence[str]) -> None:
    classes = found.classes
    if len(classes) < 2:
        raise DataError(
            f"{text!r} has one class, {classes[0]!r}, and a training needs two or more; put a "
            "folder of images for each class into it"
        )
    counts = [0] * len(classes)
    for label in found.train.samples.labels:
        if not 0 <= label < len(classes):
            raise DataError(
                f"{text!r} has the label {label}, and {len(classes)} classes: {some(classes)}; "
                "labels are numbers from 0"
            )
        counts[label] += 1
    left = " that can be read" if skipped else ""
    if empty := [name for name, count in zip(classes, counts, strict=True) if not count]:
        raise DataError(
            f"classes of {text!r} without an image for training{left}: {some(empty)}; add images, "
            "or remove the class"
        )
    if found.val is None:
        if single := [name for name, count in zip(classes, counts, strict=True) if count == 1]:
            raise DataError(
                f"classes of {text!r} with one image{left}: {some(single)}; a split into training "
                "and validation needs two or more of each class: add images, or give the split as "
                "'train' and 'val'"
            )
        return
    if not len(found.val):
        raise DataError(f"{text!r} has no image for validation{left}")
    if unknown := sorted({label for label in found.val.samples.labels if label >= len(classes)}):
        raise DataError(
            f"the validation of {text!r} has labels that the training lacks: {unknown[:5]}; the "
            f"classes of the training are {some(classes)}"
        )


def _notes_on_val(classes: tuple[str, ...], val: Part) -> list[str]:
    present = set(val.samples.labels)
    if missing := [name for number, name in enumerate(classes) if number not in present]:
        return [f"classes without an image for validation: {some(missing)}"]
    return []


def _digest(found: Found, train: Part, val: Part) -> str:
    """Return a digest that is the same for the same images on another machine.

    Names, sizes and labels tell images apart well enough. Times of change do not: a copy has other
    ones. Contents would take as long to read as the images.
    """
    digest = sha256(repr((found.classes, found.source_digest)).encode())
    for name, part in (("train", train), ("val", val)):
        for sample in zip(part.names, part.sizes, part.samples.labels, strict=True):
            digest.update(repr((name, *sample)).encode())
    return digest.hexdigest()[:16]
