"""`imagefolder:` of Hugging Face's `datasets`."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freezekit.data.class_names import numbers_in_training
from freezekit.data.folder import ImageList
from freezekit.data.found import Found, Part, part_of_files
from freezekit.data.own_datasets import part_of_dataset
from freezekit.errors import DataError, some

if TYPE_CHECKING:
    from collections.abc import Iterator

Dataset = Any  # Any: of `datasets`, which is imported only here and may not be installed
VALIDATION = ("validation", "test")


def find_with_hugging_face(name: str) -> Found:
    """Return the labelled images of a folder or of a dataset of the hub, as `datasets` reads them.

    Classes are folders, or the column "label" of a metadata.csv.

    Args:
        name: A folder, or a name on the hub.

    Raises:
        DataError: `datasets` is not installed, cannot read the folder, or finds no labels.
    """
    splits = _load(name)
    train_name = "train" if "train" in splits else next(iter(splits))
    val_name = next((each for each in VALIDATION if each in splits and each != train_name), None)
    train = _with_classes(splits[train_name], name)
    classes = tuple(map(str, train.features["label"].names))
    notes = []
    if unused := [each for each in splits if each not in (train_name, val_name)]:
        notes.append(f"splits of {name!r} that are not used: {some(unused)}")
    if val_name is None:
        return Found(classes, _part(train, name, "train"), notes=tuple(notes))
    if val_name == "test":
        notes.append(
            "validated on 'test', as there is no 'validation': accuracies that are chosen by it "
            "are too high"
        )
    val = _with_classes(splits[val_name], name)
    own = list(map(str, val.features["label"].names))
    if own != list(classes):
        numbers = numbers_in_training(
            classes,
            own,
            val["label"],
            train_name=repr(train_name),
            val_name=f"{val_name!r} of {name!r}",
        )
        with _quiet():
            val = val.map(lambda row: {"label": numbers[row["label"]]}, features=train.features)
    return Found(classes, _part(train, name, "train"), _part(val, name, "val"), tuple(notes))


def _load(name: str) -> dict[str, Dataset]:
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            f"'imagefolder:{name}' needs the package datasets ({error}); install it with: pip "
            "install 'freezekit[hugging-face]'"
        ) from None
    try:
        with _quiet():
            if Path(name).is_dir():
                return dict(datasets.load_dataset("imagefolder", data_dir=name))
            return dict(datasets.load_dataset(name))
    except Exception as error:
        said = " ".join(str(error).split())
        raise DataError(
            f"datasets cannot load 'imagefolder:{name}': {type(error).__name__}: {said:.300}"
        ) from error


def _with_classes(dataset: Dataset, name: str) -> Dataset:
    """Return the dataset with numbers of classes in its column "label"."""
    from datasets import ClassLabel

    missing = [column for column in ("image", "label") if column not in dataset.column_names]
    if missing:
        raise DataError(
            f"'imagefolder:{name}' has no column {missing[0]!r}, and {some(dataset.column_names)}; "
            "put images into a folder for each class, or name the class of each in the column "
            "'label' of metadata.csv"
        )
    if not isinstance(dataset.features["label"], ClassLabel):
        with _quiet():
            dataset = dataset.class_encode_column("label")
    # A split that is for a contest has the label -1 on the hub, and a line may have none.
    for place, label in enumerate(dataset["label"]):
        if label is None or label < 0:
            raise DataError(
                f"image {place} of {str(dataset.split)!r} of 'imagefolder:{name}' has no label "
                f"({label}); name its class, or leave it out"
            )
    return dataset


def _part(dataset: Dataset, name: str, part: str) -> Part:
    from datasets import Image

    plain = dataset.cast_column("image", Image(decode=False))
    paths = [row["path"] for row in plain["image"]] if Path(name).is_dir() else []
    root = Path(name).resolve()
    if paths and all(path and Path(path).is_file() for path in paths):
        files = tuple(Path(path).resolve().relative_to(root).as_posix() for path in paths)
        return part_of_files(ImageList(root, files), dataset["label"])
    return part_of_dataset(dataset, part)


@contextmanager
def _quiet() -> Iterator[None]:
    """Show no bars of `datasets`: a command has its own."""
    import datasets

    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            yield
    finally:
        if shown:
            datasets.enable_progress_bars()
