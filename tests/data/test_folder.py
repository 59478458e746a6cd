"""Folders of images as people have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from freezekit.data.folder import find_images
from freezekit.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path


def put(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith((".png", ".JPG")):
            Image.new("RGB", (4, 4)).save(root / name, format="png")
        elif not name.endswith("/"):
            (root / name).write_text("notes")
        else:
            (root / name).mkdir()
    return root


def test_classes_are_those_of_torchvision(tmp_path: Path) -> None:
    root = put(
        tmp_path, "dog/b.png", "dog/in/a.png", "dog/a.png", "Cat/2.JPG", "Cat/10.png", "a.txt"
    )
    images, theirs = find_images(root), ImageFolder(root)
    assert list(images.classes) == theirs.classes
    found = [(str(root / f), label) for f, label in zip(images.files, images.labels, strict=True)]
    assert found == theirs.samples


def test_a_flat_folder_has_no_classes(tmp_path: Path) -> None:
    images = find_images(put(tmp_path, "b.png", "a.JPG", "read.me", "empty/"))
    assert (images.files, images.labels, images.classes) == (("a.JPG", "b.png"), (), ())
    assert str(images) == "2 images, no classes"


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    root = put(tmp_path, "a/1.png", "a/._1.png", ".cache/2.png", "a/.thumbs/3.png")
    assert find_images(root).files == ("a/1.png",)


def test_the_digest_sees_another_name_and_another_content(tmp_path: Path) -> None:
    images = find_images(put(tmp_path, "a.png", "b.png"))
    before = images.digest()
    assert find_images(tmp_path).digest() == before
    Image.new("RGB", (5, 5)).save(tmp_path / "a.png")
    changed = images.digest()
    (tmp_path / "b.png").rename(tmp_path / "c.png")
    assert len({before, changed, find_images(tmp_path).digest()}) == 3


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((), "has no images"),
        (("notes.txt", "a/notes.txt"), "has no images"),
        (("a.png", "dog/b.png"), "has images itself, such as 'a.png', and in folders: 'dog'"),
        (("dog/b.png", "notes/a.txt", "out/"), "have no images: 'notes', 'out'; each folder is a"),
    ],
)
def test_what_is_no_folder_of_images_is_refused(
    names: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=said):
        find_images(put(tmp_path, *names))


def test_a_file_and_a_missing_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such folder"):
        find_images(tmp_path / "no")
    with pytest.raises(DataError, match="it is a file"):
        find_images(put(tmp_path, "a.txt") / "a.txt")
