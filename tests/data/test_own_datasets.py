"""Datasets of the user's own, in a file beside the images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from freezekit.data.loading import load_training_data
from freezekit.errors import DataError
from tests.data.image_files import put_images

if TYPE_CHECKING:
    from pathlib import Path

BEGIN = """
import torch
from PIL import Image
from torch.utils.data import Dataset, Subset

def image(number):
    return Image.new("RGB", (8, 8), (number, 0, 0))

class Own(Dataset):
    def __init__(self, labels):
        self.mine = labels
    def __len__(self):
        return len(self.mine)
    def __getitem__(self, index):
        return image(index), self.mine[index]
"""


def text_of(tmp_path: Path, code: str) -> str:
    (tmp_path / "data.py").write_text(BEGIN + code)
    return f"{tmp_path / 'data.py'}:datasets"


def test_pairs_and_mappings_and_subsets(tmp_path: Path) -> None:
    code = """
class Mapping(Own):
    classes = ["cat", "dog"]
    def __getitem__(self, index):
        return {"image": image(index), "label": torch.tensor(self.mine[index])}

def datasets():
    return Mapping([0, 1, 1]), Subset(Own([0, 1, 0]), [2, 1])
"""
    data = load_training_data(text_of(tmp_path, code))
    assert (data.classes, data.split, data.notes) == (("cat", "dog"), "given", ())
    assert (list(data.train.labels), list(data.val.labels)) == ([0, 1, 1], [0, 1])
    pixel, label = data.val[0]
    assert (pixel.getpixel((0, 0)), label) == ((2, 0, 0), 0)


NAMED = """
class Named(Own):
    def __init__(self, classes, labels):
        super().__init__(labels)
        self.classes = classes
"""


@pytest.mark.parametrize(
    ("datasets", "labels"),
    [
        ("Named(['a', 'b', 'c'], [0, 1, 2]), Named(['b', 'c'], [0, 1])", [1, 2]),
        ("Named(['x', 'y'], [0, 1]), Named(['y', 'x'], [0, 1, 1])", [1, 0, 0]),
        ("Named(['x', 'y'], [0, 1]), Subset(Named(['y', 'x'], [0, 1, 1]), [2, 0])", [0, 1]),
        ("Subset(Named(['x', 'y'], [0, 1]), [0, 1]), Named(['y'], [0])", [1]),
        ("Named(['x', 'y'], [0, 1]), Named(['new', 'x'], [1])", [0]),
        ("Named(['x', 'y'], [0, 1]), Own([1, 0])", [1, 0]),
        ("Named(['x', 'x'], [0, 1]), Named(['x', 'x'], [1, 0])", [1, 0]),
    ],
)
def test_classes_of_the_validation_are_matched_by_name(
    datasets: str, labels: list[int], tmp_path: Path
) -> None:
    text = text_of(tmp_path, f"{NAMED}\ndef datasets(): return {datasets}")
    data = load_training_data(text)
    assert list(data.val.labels) == labels
    assert [data.val[index][1] for index in range(len(data.val))] == labels


def test_a_part_has_the_class_names_of_the_whole(tmp_path: Path) -> None:
    code = "def datasets(): return [Subset(Named(['x', 'y', 'z'], [0, 1, 2]), [0, 1])] * 2"
    assert load_training_data(text_of(tmp_path, NAMED + code)).classes == ("x", "y")


def test_image_folders_whose_classes_differ(tmp_path: Path) -> None:
    put_images(tmp_path, {"train/a": 2, "train/b": 2, "train/c": 2, "val/b": 1, "val/c": 1})
    code = f"""
from torchvision.datasets import ImageFolder

def datasets():
    return ImageFolder({str(tmp_path / "train")!r}), ImageFolder({str(tmp_path / "val")!r})
"""
    data = load_training_data(text_of(tmp_path, code))
    assert (data.classes, [data.val[0][1], data.val[1][1]]) == (("a", "b", "c"), [1, 2])


@pytest.mark.parametrize(
    ("datasets", "said"),
    [
        ("Named(['x', 'y'], [0, 1]), Named(['y', 'z'], [0, 1])", "that train lacks: 'z'; a class"),
        ("Named(['x', 'y'], [0, 1]), Named(['y', 'x'], [0, 2])", "has the label 2, and 2 classes"),
        ("Named(['x', 'x'], [0, 1]), Named(['y'], [0])", "train has names twice: 'x'; rename"),
    ],
)
def test_classes_of_the_validation_that_cannot_be_matched(
    datasets: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=said):
        load_training_data(text_of(tmp_path, f"{NAMED}\ndef datasets(): return {datasets}"))


@pytest.mark.parametrize("attribute", ["targets", "labels", "_labels"])
def test_labels_of_an_attribute_spare_reading_if_they_are_right(
    attribute: str, tmp_path: Path
) -> None:
    code = f"""
read = []

class Listed(Own):
    def __init__(self, labels):
        super().__init__(labels)
        self.{attribute} = torch.tensor(labels)
    def __getitem__(self, index):
        read.append(index)
        return super().__getitem__(index)

def datasets():
    return Listed([0, 1] * 100), Listed([1])
"""
    text = text_of(tmp_path, code)
    data = load_training_data(text, skipped=())
    import sys

    assert len(sys.modules["freezekit_user_data"].read) < 30
    assert load_training_data(text).digest == data.digest


def test_labels_of_an_attribute_that_are_wrong_are_not_taken(tmp_path: Path) -> None:
    code = """
class Moved(Own):
    targets = [5, 6, 7, 8]

def datasets():
    return Moved([0, 1, 1, 0]), Own([1])
"""
    assert list(load_training_data(text_of(tmp_path, code)).train.labels) == [0, 1, 1, 0]


def test_tensors_are_taken_as_they_are(tmp_path: Path) -> None:
    code = """
class Tensors(Own):
    def __getitem__(self, index):
        return torch.full((3, 8, 8), float(index)), self.mine[index]

def datasets():
    return Tensors([0, 1]), Tensors([1, 0])
"""
    data = load_training_data(text_of(tmp_path, code))
    assert torch.equal(data.train[1][0], torch.ones(3, 8, 8))
    assert data.notes == (
        "images are tensors, which are taken as they are: they are not augmented",
    )


def test_the_digest_sees_labels_and_code(tmp_path: Path) -> None:
    one = load_training_data(text_of(tmp_path, "def datasets(): return Own([0, 1]), Own([1])"))
    (tmp_path / "elsewhere").mkdir()
    code = "def datasets(): return Own([0, 1]), Own([1])"
    assert load_training_data(text_of(tmp_path / "elsewhere", code)).digest == one.digest
    for other in ("def datasets(): return Own([0, 1]), Own([0])", f"{code} # resized"):
        assert load_training_data(text_of(tmp_path, other)).digest != one.digest


BAD_SAMPLES = """
class Bad(Own):
    def __getitem__(self, index):
        if index in (1, 5):
            raise OSError(f"broken file {index}")
        return super().__getitem__(index)

def datasets():
    return Bad([0, 0, 1, 1, 0, 1]), Own([0, 1])
"""


def test_samples_that_raise_are_named_or_skipped(tmp_path: Path) -> None:
    text = text_of(tmp_path, BAD_SAMPLES)
    said = r"2 of 8 images cannot be read: 'train\[1\]' \(OSError: broken file 1\), 'train\[5\]'"
    with pytest.raises(DataError, match=said):
        load_training_data(text)
    data = load_training_data(text, bad_images="skip")
    assert data.skipped == ("train[1]", "train[5]")
    assert list(data.train.labels) == [0, 1, 1, 0]
    assert load_training_data(text, skipped=data.skipped).digest == data.digest


def test_images_of_floating_point_numbers_are_named(tmp_path: Path) -> None:
    code = """
def datasets():
    return [(image(1), 0), (image(2).convert("F"), 1), (image(3), 1)], Own([0, 1])
"""
    said = r"1 of 5 images cannot be read: 'train\[1\]' \(numbers are floating-point, of unknown"
    with pytest.raises(DataError, match=said):
        load_training_data(text_of(tmp_path, code))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("datasets = 3", "has no function 'datasets'"),
        ("def dataset(): pass", r"did you mean 'dataset' or 'Dataset'\? a function of your own is"),
        ("def datasets(): 1 / 0", "failed: ZeroDivisionError: division by zero"),
        ("1 / 0", "importing .* failed: ZeroDivisionError"),
        ("def datasets(): return Own([0])", r"returned Own, expected two datasets: \(train, val\)"),
        ("def datasets(): return Own([0]), 3, 4", "returned 3 values, expected two datasets"),
        ("def datasets(): return Own([0]), iter([])", "list_iterator for val, expected a dataset"),
        ("def datasets(): return Own([0, -1]), Own([0])", "label of sample 1 of train is -1, exp"),
        ("def datasets(): return Own(['a', 'b']), Own([0])", "label of sample 0 of train is 'a'"),
        ("def datasets(): return Own([0, 0]), Own([0])", "has one class, '0'"),
        ("def datasets(): return Own([0, 2]), Own([0])", "an image for training: '1'; add images"),
        ("def datasets(): return Own([0, 1]), Own([])", "has no image for validation"),
        ("def datasets(): return Own([0, 1]), Own([3])", r"that the training lacks: \[3\]; the cl"),
        ("def datasets(): return [1, 2], Own([3])", r"sample 0 of train is of type int, expected"),
        (
            "def datasets(): return [('a', 2)], Own([3])",
            "image of sample 0 of train is of type str",
        ),
        (
            "def datasets(): return [(torch.zeros(3, 8, 8).byte(), 1)], Own([0])",
            r"a tensor of torch.uint8 and shape \(3, 8, 8\), expected an image of PIL, or a tensor",
        ),
    ],
)
def test_functions_that_do_not_return_two_datasets(code: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        load_training_data(text_of(tmp_path, code))


def test_files_that_are_not_there() -> None:
    said = "there is no file 'no.py'; a function of your own is 'package.module:function' or"
    with pytest.raises(DataError, match=said):
        load_training_data("no.py:datasets")
    with pytest.raises(DataError, match=r"there is no module 'no_such.module'; a function"):
        load_training_data("no_such.module:datasets")
