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


def test_links_are_followed_and_never_back(tmp_path: Path) -> None:
    root = put(tmp_path / "photos", "a/1.png", "a/deep/2.png", "b/3.png")
    put(tmp_path / "elsewhere", "4.png", "in/5.png")
    for link, target in {
        "a/up": "..",
        "a/self": ".",
        "a/deep/up": "../..",
        "a/again": "deep",
        "a/other": "../../elsewhere",
        "c": "../elsewhere",
        "a/knot": "knot",
    }.items():
        (root / link).symlink_to(target)
    (tmp_path / "elsewhere" / "in" / "up").symlink_to("..")
    images = find_images(root)
    assert images.files == (
        "a/1.png",
        "a/deep/2.png",
        "a/other/4.png",
        "a/other/in/5.png",
        "b/3.png",
        "c/4.png",
        "c/in/5.png",
    )
    assert images.labels == (0, 0, 0, 0, 1, 2, 2)


def test_a_class_that_is_a_link_to_the_folder_itself_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png").joinpath("up").symlink_to(".")
    with pytest.raises(DataError, match="have no images: 'up'; each folder is a class"):
        find_images(tmp_path)


@pytest.mark.parametrize("name", ["1.png", "a/1.png"])
def test_a_link_to_nothing_is_an_image(name: str, tmp_path: Path) -> None:
    other = name.replace("1", "2")
    (put(tmp_path, other) / name).symlink_to("nothing.png")
    images = find_images(tmp_path)
    assert images.files == (name, other)
    assert images.digest() == find_images(tmp_path).digest()


def test_files_that_are_no_images_are_told(tmp_path: Path) -> None:
    root = put(tmp_path, "a/1.png", "a/1.gif", "a/in/2.gif", "a/.hidden", "b/1.png", "read.me")
    said = "2 files are not images of known extensions, such as 'a/1.gif'"
    assert find_images(root).notes == (said,)
    assert find_images(root / "b").notes == ()
    (root / "b" / "x.heic").touch()
    said = "1 file is no image of known extensions, such as 'x.heic'"
    assert find_images(root / "b").notes == (said,)
