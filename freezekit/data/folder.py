"""A folder of images: which there are, and their classes."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from freezekit.data.walking import files_below
from freezekit.errors import DataError, some
from freezekit.results.files import reason

if TYPE_CHECKING:
    from collections.abc import Iterable

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Those of torchvision's ImageFolder."""


@dataclass(frozen=True)
class ImageList:
    """The images of a folder.

    Attributes:
        root: The folder.
        files: Their paths below it, with "/".
        labels: The number of the class of each; () where there are no classes.
        classes: Names of the classes, in the order of their numbers.
        others: Paths of files beside the images that are not images by their extension.
    """

    root: Path
    files: tuple[str, ...]
    labels: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.files)

    def __str__(self) -> str:
        kind = (
            f"{len(self.classes)} classes: {some(self.classes)}" if self.classes else "no classes"
        )
        return f"{len(self):,} images, {kind}"

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the reader.

        Example:
            >>> ImageList(Path("photos"), ("a/1.png",), others=("a/1.gif", "a/2.gif")).notes
            ("2 files are not images of known extensions, such as 'a/1.gif'",)
        """
        if not self.others:
            return ()
        count = len(self.others)
        files = "1 file is no image" if count == 1 else f"{count:,} files are not images"
        return (f"{files} of known extensions, such as {self.others[0]!r}",)

    def digest(self) -> str:
        """Return a digest of names, sizes and times of change."""
        found = hashlib.sha256()
        for name in self.files:
            try:
                stat = (self.root / name).stat()
                known = f"{stat.st_size} {stat.st_mtime_ns}"
            except OSError as error:  # who reads it tells it
                known = reason(error)
            found.update(os.fsencode(f"{name}\n{known}\n"))
        return found.hexdigest()[:16]


def find_images(folder: str | Path) -> ImageList:
    """Return the images of a folder.

    If it has folders of images, each of them is a class, as in torchvision's `ImageFolder`: numbers
    and order are the same. If it has images itself, they have no classes. Names that begin with a
    dot are left out. Links are followed, but no folder is read twice for a class, nor a folder that
    the link lies in. A link to nothing counts as an image, which cannot be read.

    Raises:
        DataError: There is no such folder, it has no images, it has images both itself and in
            folders, or one of its folders has none.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name in ("cat", "dog"):
        ...         (Path(root) / name).mkdir()
        ...         Image.new("RGB", (8, 8)).save(Path(root) / name / "1.png")
        ...     images = find_images(root)
        >>> images.files, images.labels, images.classes
        (('cat/1.png', 'dog/1.png'), (0, 1), ('cat', 'dog'))
    """
    root = Path(folder)
    if not root.is_dir():
        what = "it is a file" if root.exists() else "there is no such folder"
        raise DataError(f"cannot read images from {str(folder)!r}: {what}; name a folder of images")
    inside = sorted(path for path in _entries(root) if not path.name.startswith("."))
    files = [path.name for path in inside if path.is_file() or _is_link_to_nothing(path)]
    loose = tuple(filter(_is_image, files))
    below = {path.name: files_below(root, path) for path in inside if path.is_dir()}
    by_class = {name: tuple(filter(_is_image, found)) for name, found in below.items()}
    filled = [name for name, found in by_class.items() if found]
    if not loose and not filled:
        raise DataError(
            f"the folder {str(folder)!r} has no images ({', '.join(EXTENSIONS)}); put a folder of "
            "images for each class into it, or images without classes"
        )
    if loose and filled:
        raise DataError(
            f"the folder {str(folder)!r} has images itself, such as {loose[0]!r}, and in folders: "
            f"{some(filled)}; put each image into the folder of its class, or name one of the "
            "folders"
        )
    if loose:
        return ImageList(root, loose, others=_others(files))
    if empty := [name for name in by_class if name not in filled]:
        raise DataError(
            f"these folders in {str(folder)!r} have no images: {some(empty)}; each folder is a "
            "class, so remove those that are none"
        )
    return ImageList(
        root,
        tuple(file for files in by_class.values() for file in files),
        tuple(label for label, files in enumerate(by_class.values()) for _ in files),
        tuple(by_class),
        _others(name for found in below.values() for name in found),
    )


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise DataError(f"cannot read the folder {str(folder)!r}: {reason(error)}") from None


def _is_link_to_nothing(path: Path) -> bool:
    return path.is_symlink() and not path.exists()


def _is_image(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS)


def _others(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in names if not _is_image(name))
