"""`imagefolder:` reads what Hugging Face's `datasets` reads."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

import pytest

from freezekit.data.loading import load_training_data
from freezekit.errors import DataError
from tests.data.image_files import put_images

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

datasets = pytest.importorskip("datasets")
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # of datasets


@pytest.fixture(autouse=True)
def _own_cache(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(folder))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    yield
    gc.collect()  # what datasets left open is told here, where it is ignored


@pytest.mark.parametrize(
    "counts",
    [{"cat": 4, "dog": 3}, {"train/cat": 4, "train/dog": 3, "val/cat": 2, "val/dog": 1}],
)
def test_folders_are_read_as_without_it(counts: dict[str, int], tmp_path: Path) -> None:
    root = put_images(tmp_path, counts)
    found, plain = load_training_data(f"imagefolder:{root}"), load_training_data(str(root))
    assert (found.classes, found.split, found.digest) == (plain.classes, plain.split, plain.digest)


def test_labels_of_a_metadata_file(tmp_path: Path) -> None:
    root = put_images(tmp_path, {".": 6})
    lines = [f"{number}.png,{'no' if number % 2 else 'yes'}" for number in range(6)]
    (root / "metadata.csv").write_text("\n".join(["file_name,label", *lines]))
    data = load_training_data(f"imagefolder:{root}")
    assert data.classes == ("no", "yes")
    assert (data.train.labels, data.val.labels) == ((1, 0, 0, 1), (1, 0))


def test_labels_of_splits_are_matched_by_name(tmp_path: Path) -> None:
    root = put_images(tmp_path, {"train": 6, "val": 2})
    for split, classes in (("train", "abcabc"), ("val", "bc")):
        lines = [f"{number}.png,{name}" for number, name in enumerate(classes)]
        (root / split / "metadata.csv").write_text("\n".join(["file_name,label", *lines]))
    data = load_training_data(f"imagefolder:{root}")
    assert (data.classes, list(data.val.labels)) == (("a", "b", "c"), [1, 2])


def test_an_image_without_a_label_is_refused(tmp_path: Path) -> None:
    root = put_images(tmp_path, {".": 4})
    (root / "metadata.csv").write_text("file_name,label\n0.png,a\n1.png,b\n2.png,\n3.png,a")
    with pytest.raises(DataError, match=r"image 2 of 'train' of 'imagefolder:.*' has no label"):
        load_training_data(f"imagefolder:{root}")


def test_folders_without_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no column 'label', and 'image'; put images into"):
        load_training_data(f"imagefolder:{put_images(tmp_path, {'.': 2})}")


def test_what_it_cannot_load_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"datasets cannot load 'imagefolder:.*") as caught:
        load_training_data(f"imagefolder:{tmp_path}")
    assert "\n" not in str(caught.value)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)  # as if it were not installed
    with pytest.raises(
        DataError, match=r"install it with: pip install 'freezekit\[hugging-face\]'"
    ):
        load_training_data("imagefolder:photos")


def test_a_dataset_of_a_function(tmp_path: Path) -> None:
    root = put_images(tmp_path / "photos", {"cat": 4, "dog": 3})
    (tmp_path / "data.py").write_text(
        "import datasets as d\n"
        "def datasets():\n"
        f"    whole = d.load_dataset('imagefolder', data_dir={str(root)!r})['train']\n"
        "    parts = whole.train_test_split(3, seed=0, stratify_by_column='label')\n"
        "    return parts['train'], parts['test']\n"
    )
    data = load_training_data(f"{tmp_path / 'data.py'}:datasets")
    assert (len(data.train), len(data.val), data.train[0][0].size) == (4, 3, (20, 16))
