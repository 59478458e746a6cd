"""The images of a training, as people have them: found, checked, divided."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from freezekit.data.loading import load_training_data
from freezekit.errors import DataError
from tests.data.image_files import put_images

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TWO = {"cat": 10, "dog": 5}
GIVEN = {"train/cat": 4, "train/dog": 3, "val/cat": 2, "val/dog": 1}


def names(samples: object) -> list[str]:
    """Return the files of samples, whether they were chosen or not."""
    indices = getattr(samples, "indices", None)
    files = getattr(samples, "files", None) or samples.samples.files  # type: ignore[attr-defined]  # of chosen ones
    return [files[index] for index in indices] if indices is not None else list(files)


def test_a_split_that_is_made_takes_a_part_of_each_class(tmp_path: Path) -> None:
    data = load_training_data(str(put_images(tmp_path, TWO)))
    assert (data.classes, data.split, data.val_fraction, data.split_seed) == (
        ("cat", "dog"),
        "made",
        0.2,
        0,
    )
    assert (data.train.labels.count(0), data.val.labels.count(0)) == (8, 2)  # type: ignore[attr-defined]  # a tuple
    assert (data.train.labels.count(1), data.val.labels.count(1)) == (4, 1)  # type: ignore[attr-defined]  # a tuple
    assert set(names(data.train)).isdisjoint(names(data.val))
    image, label = data.val[2]
    assert (image.size, label) == ((20, 16), 1)


def test_the_split_is_the_same_everywhere_and_another_seed_makes_another(tmp_path: Path) -> None:
    root = put_images(tmp_path / "a", TWO)
    data = load_training_data(str(root))
    # Written down: it may change neither with versions nor with machines.
    assert names(data.val) == ["cat/3.png", "cat/7.png", "dog/0.png"]
    shutil.copytree(root, tmp_path / "b")
    for path in (tmp_path / "b").rglob("*.png"):
        os.utime(path, (0, 0))
    copy = load_training_data(str(tmp_path / "b"))
    assert (names(copy.val), copy.digest) == (names(data.val), data.digest)
    other = load_training_data(str(root), split_seed=1)
    assert names(other.val) != names(data.val)
    assert other.digest != data.digest


def test_each_class_has_at_least_one_image_on_both_sides(tmp_path: Path) -> None:
    root = str(put_images(tmp_path, {"a": 2, "b": 3, "c": 20}))
    for fraction, counts in ((0.01, [1, 1, 1]), (0.99, [1, 2, 19])):
        data = load_training_data(root, val_fraction=fraction)
        assert [list(data.val.labels).count(label) for label in range(3)] == counts
    with pytest.raises(DataError, match=r"val_fraction is 1\.5, expected a number between 0 and 1"):
        load_training_data(root, val_fraction=1.5)


@pytest.mark.parametrize("name", ["val", "valid", "validation", "test"])
def test_a_split_that_is_given(name: str, tmp_path: Path) -> None:
    root = put_images(tmp_path, {path.replace("val", name): n for path, n in GIVEN.items()})
    put_images(root, {"more/cat": 1})
    data = load_training_data(str(root))
    assert (data.split, data.val_fraction, data.split_seed) == ("given", None, None)
    assert (len(data.train), len(data.val), list(data.val.labels)) == (7, 3, [0, 0, 1])
    assert "'more'" in data.notes[0]
    assert ("validated on 'test'" in data.notes[-1]) is (name == "test")


def test_a_fraction_beside_a_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has a split of its own, so that val_fraction"):
        load_training_data(str(put_images(tmp_path, GIVEN)), val_fraction=0.2)


def test_val_comes_before_test(tmp_path: Path) -> None:
    data = load_training_data(str(put_images(tmp_path, {**GIVEN, "test/cat": 9})))
    assert len(data.val) == 3
    assert data.notes == (f"folders of {tmp_path.name!r} that are not used: 'test'",)


def test_classes_of_the_validation_have_the_numbers_of_the_training(tmp_path: Path) -> None:
    root = put_images(tmp_path, {"train/a": 2, "train/b": 2, "train/c": 2, "val/c": 1})
    data = load_training_data(str(root))
    assert list(data.val.labels) == [2]
    assert data.notes == ("classes without an image for validation: 'a', 'b'",)


@pytest.mark.parametrize("folder", ["train", "test"])
def test_classes_may_be_called_as_splits_are(folder: str, tmp_path: Path) -> None:
    data = load_training_data(str(put_images(tmp_path, {folder: 4, "car": 4})))
    assert data.classes == ("car", folder)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"a": 3}, "has one class, 'a', and a training needs two or more"),
        ({"a": 3, "b": 1, "c": 1}, "with one image: 'b', 'c'; a split into training and validat"),
        ({"a": 3, "b": 0}, "have no images: 'b'; each folder is a class"),
        ({".": 3}, "have no classes; put each into the folder of its class"),
        ({**GIVEN, "val/eel": 1}, r"has classes that 'train' lacks: 'eel'; a class without"),
        ({**GIVEN, "valid/cat": 1}, "has the folders 'val', 'valid', and one of them is expected"),
        ({**GIVEN, "train/eel": 0}, "have no images: 'eel'; each folder is a class"),
        ({"train/a": 2, "train/b": 2, "val": 0}, "val' has no images"),
    ],
)
def test_folders_that_cannot_be_trained_on(
    counts: dict[str, int], said: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=said):
        load_training_data(str(put_images(tmp_path, counts)))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(b"no image")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def truncated_jpeg(path: Path) -> None:
    Image.effect_noise((64, 64), 50).save(path, format="jpeg")
    truncated(path)


def a_link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("nothing.png")


def of_floats(path: Path) -> None:
    Image.new("F", (8, 8), 0.5).save(path, format="tiff")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (of_floats, "DataError: numbers are floating-point, of unknown range"),
        (empty, "the file is empty"),
        (a_link_to_nothing, "FileNotFoundError: [Errno 2] No such file or directory: 'cat/0.png'"),
        (garbage, "UnidentifiedImageError: cannot identify image file"),
        (truncated, "OSError: "),
        (truncated_jpeg, "OSError: image file is truncated"),
    ],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_images_that_cannot_be_read_are_named_or_skipped(
    damage: Callable[[Path], None], said: str, workers: int, tmp_path: Path
) -> None:
    root = put_images(tmp_path, TWO)
    damage(root / "cat" / "0.png")
    damage(root / "dog" / "4.png")
    seen: list[tuple[int, int]] = []
    with pytest.raises(DataError) as caught:
        load_training_data(
            str(root), workers=workers, on_progress=lambda done, total: seen.append((done, total))
        )
    assert str(caught.value).startswith(f"2 of 15 images cannot be read: 'cat/0.png' ({said}")
    assert "leave them out with --bad-images skip" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert seen[-1] == (15, 15)
    data = load_training_data(str(root), bad_images="skip", workers=workers)
    assert data.skipped == ("cat/0.png", "dog/4.png")
    assert len(data.train) + len(data.val) == 13


def test_files_that_are_no_images_are_a_note(tmp_path: Path) -> None:
    root = put_images(tmp_path, GIVEN)
    (root / "train" / "cat" / "1.gif").touch()
    (root / "val" / "dog" / "1.gif").touch()
    said = "2 files are not images of known extensions, such as 'train/cat/1.gif'"
    assert load_training_data(str(root)).notes == (said,)
    said = "1 file is no image of known extensions, such as 'cat/1.gif'"
    assert load_training_data(str(root / "train")).notes == (said,)


def test_images_that_are_known_to_be_bad_are_not_read_again(tmp_path: Path) -> None:
    root = put_images(tmp_path, TWO)
    empty(root / "cat" / "0.png")
    checked = load_training_data(str(root), bad_images="skip")
    empty(root / "cat" / "1.png")  # nobody looks
    (root / "cat" / "1.png").write_bytes(b"x" * 999)
    seen: list[int] = []
    known = load_training_data(
        str(root), skipped=checked.skipped, on_progress=lambda done, _: seen.append(done)
    )
    assert not seen
    assert (known.skipped, len(known.train)) == (checked.skipped, len(checked.train))
    assert known.digest != checked.digest  # of another size
    with pytest.raises(DataError, match=r"cannot read the image .*cat/1.png', which was there"):
        [part[index] for part in (known.train, known.val) for index in range(len(part))]


def test_a_class_whose_images_are_all_bad_is_refused(tmp_path: Path) -> None:
    root = put_images(tmp_path, TWO)
    for path in (root / "dog").iterdir():
        garbage(path)
    with pytest.raises(DataError, match="without an image for training that can be read: 'dog'"):
        load_training_data(str(root), bad_images="skip")


@pytest.mark.parametrize("text", [None, "", "no-such-folder", "synthetic"])
def test_without_images_the_error_says_where_to_get_some(text: str | None) -> None:
    with pytest.raises(
        DataError, match=r"(?s)expected a folder .*OxfordIIITPet\(root, download=True"
    ):
        load_training_data(text)


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are Linux's")
def test_names_of_any_bytes(tmp_path: Path) -> None:
    root = put_images(tmp_path, TWO)
    os.rename(os.fsencode(root / "cat" / "0.png"), os.fsencode(root / "cat") + b"/\xff.png")  # noqa: PTH104  # bytes
    os.truncate(os.fsencode(root / "cat") + b"/\xff.png", 0)
    assert load_training_data(str(root), bad_images="skip").skipped == ("cat/\\udcff.png",)
