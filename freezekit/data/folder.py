"""A folder of images: which there are, and their classes."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from freezekit.errors import DataError, some
from freezekit.results.files import reason

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    """

    root: Path
    files: tuple[str, ...]
    labels: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.files)

    def __str__(self) -> str:
        kind = (
            f"{len(self.classes)} classes: {some(self.classes)}" if self.classes else "no classes"
        )
        return f"{len(self):,} images, {kind}"

    def digest(self) -> str:
        """Return a digest of names, sizes and times of change.

        Raises:
            DataError: A file is gone.
        """
        found = hashlib.sha256()
        for name in self.files:
            try:
                stat = (self.root / name).stat()
            except OSError as error:
                raise DataError(f"cannot read {str(self.root / name)!r}: {reason(error)}") from None
            found.update(os.fsencode(f"{name}\n{stat.st_size} {stat.st_mtime_ns}\n"))
        return found.hexdigest()[:16]


def find_images(folder: str | Path) -> ImageList:
    """Return the images of a folder.

    If it has folders of images, each of them is a class, as in torchvision's `ImageFolder`: numbers
    and order are the same. If it has images itself, they have no classes. Names that begin with a
    dot are left out.

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
    loose = tuple(path.name for path in inside if _is_image(path.name) and path.is_file())
    by_class = {path.name: tuple(_below(root, path)) for path in inside if path.is_dir()}
    filled = [name for name, files in by_class.items() if files]
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
        return ImageList(root, loose)
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
    )


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise DataError(f"cannot read the folder {str(folder)!r}: {reason(error)}") from None


def _below(root: Path, folder: Path) -> Iterator[str]:
    """Give the images of a class in the order of `ImageFolder`: folder by folder."""

    def fail(error: OSError) -> None:
        raise DataError(f"cannot read the folder {error.filename!r}: {reason(error)}") from None

    for path, _, names in sorted(os.walk(folder, onerror=fail, followlinks=True)):
        below = Path(path).relative_to(root)
        if not any(part.startswith(".") for part in below.parts):
            yield from ((below / name).as_posix() for name in sorted(names) if _is_image(name))


def _is_image(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(EXTENSIONS)
