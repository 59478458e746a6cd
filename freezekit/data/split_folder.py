"""A folder of class folders, or one with such folders for training and for validation."""

from __future__ import annotations

from pathlib import Path

from freezekit.data.class_names import numbers_in_training
from freezekit.data.folder import ImageList, find_images
from freezekit.data.found import Found, part_of_files
from freezekit.errors import DataError, some

VALIDATION = ("val", "valid", "validation")
"""Names of the folder of a validation; "test" is taken if there is none of them."""


def find_in_folder(folder: str | Path) -> Found:
    """Return the labelled images of a folder.

    With "train" and one of `VALIDATION`, or "test", in it, the split is given. The folders in
    "train" are the classes then, and those in the other one must be among them.

    Raises:
        DataError: There is no such folder, it has no classes, one of its folders is empty, or
            classes of the validation are not in "train".
    """
    root = Path(folder)
    names = {path.name for path in root.iterdir() if path.is_dir()} if root.is_dir() else set()
    there = [name for name in VALIDATION if name in names]
    if "train" not in names or not (there or "test" in names):
        images = _with_classes(root)
        return Found(images.classes, part_of_files(images, images.labels), notes=images.notes)
    if len(there) > 1:
        raise DataError(
            f"{str(folder)!r} has the folders {some(there)}, and one of them is expected; remove "
            "or rename the others"
        )
    val_name = there[0] if there else "test"
    train, val = _with_classes(root / "train"), _with_classes(root / val_name)
    numbers = numbers_in_training(
        train.classes,
        val.classes,
        val.labels,
        train_name="'train'",
        val_name=repr(str(root / val_name)),
    )
    return Found(
        train.classes,
        part_of_files(train, train.labels, "train"),
        part_of_files(val, [numbers[label] for label in val.labels], val_name),
        (*_notes(root, val_name, names), *_below(root, train, val).notes),
    )


def _notes(root: Path, val_name: str, names: set[str]) -> list[str]:
    unused = sorted(n for n in names - {"train", val_name} if not n.startswith("."))
    notes = [f"folders of {root.name!r} that are not used: {some(unused)}"] if unused else []
    if val_name == "test":
        notes.append(
            "validated on 'test', as there is no 'val': accuracies that are chosen by it are too "
            "high"
        )
    return notes


def _below(root: Path, *parts: ImageList) -> ImageList:
    """Return the other files of parts of a folder, named from the folder."""
    others = (f"{part.root.name}/{name}" for part in parts for name in part.others)
    return ImageList(root, (), others=tuple(others))


def _with_classes(root: Path) -> ImageList:
    images = find_images(root)
    if not images.classes:
        raise DataError(
            f"the images in {str(root)!r} have no classes; put each into the folder of its class"
        )
    return images
