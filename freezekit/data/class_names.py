"""Names of classes, and the numbers that a validation's classes have in the training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.utils.data import Subset

from freezekit.errors import DataError, some

if TYPE_CHECKING:
    from collections.abc import Sequence

UNKNOWN = -1
"""The number of a class that the training does not have."""


def class_names(dataset: Any, count: int) -> tuple[str, ...] | None:  # Any: of the user's
    """Return the names of the classes of a dataset, in the order of their numbers.

    A part of a dataset has the names of the whole.

    Args:
        dataset: Any dataset.
        count: Classes by its labels. A part may have no image of the last classes of the whole,
            which are left out then.

    Returns:
        The names; None where the dataset has none.

    Example:
        >>> class Photos(list):
        ...     classes = ["cat", "dog"]
        >>> class_names(Photos(), 1), class_names(Subset(Photos(), []), 1), class_names([], 1)
        (('cat', 'dog'), ('cat',), None)
    """
    if isinstance(dataset, Subset):
        whole = class_names(dataset.dataset, count)
        return None if whole is None else whole[:count]
    if "label" in (getattr(dataset, "column_names", None) or ()):  # of Hugging Face
        known = getattr(dataset.features["label"], "names", None)
        return None if known is None else tuple(map(str, known[:count]))
    names: Any = getattr(dataset, "classes", None)  # Any: of the user's
    if not hasattr(names, "__len__") or isinstance(names, str) or not len(names):
        return None
    return tuple(map(str, names))


def numbers_in_training(
    train: Sequence[str],
    val: Sequence[str],
    labels: Sequence[int],
    *,
    train_name: str,
    val_name: str,
) -> tuple[int, ...]:
    """Return the number in the training of each class of the validation, by its name.

    Args:
        train: Names of its classes, in the order of their numbers.
        val: The same of the validation.
        labels: Of the validation; negative ones are left out.
        train_name: For messages.
        val_name: For messages.

    Returns:
        The numbers; `UNKNOWN` for a class that the training lacks and no label is of.

    Raises:
        DataError: A label is of a class that the training lacks, or of none, or names do not tell
            classes apart.

    Example:
        >>> names = {"train_name": "'train'", "val_name": "'val'"}
        >>> numbers_in_training("abc", "bc", [0, 1], **names)
        (1, 2)
    """
    if tuple(train) == tuple(val):
        return tuple(range(len(train)))
    for names, whose in ((train, train_name), (val, val_name)):
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise DataError(
                f"{train_name} and {val_name} have other classes, which are matched by name, and "
                f"{whose} has names twice: {some(twice)}; rename these classes"
            )
    used = {label for label in labels if label >= 0}
    if used and max(used) >= len(val):
        raise DataError(
            f"{val_name} has the label {max(used)}, and {len(val)} classes: {some(val)}; labels "
            "are numbers from 0"
        )
    if unknown := [val[label] for label in sorted(used) if val[label] not in train]:
        raise DataError(
            f"{val_name} has classes that {train_name} lacks: {some(unknown)}; a class without "
            "training images cannot be learnt, so add images or remove it"
        )
    return tuple(train.index(name) if name in train else UNKNOWN for name in val)
