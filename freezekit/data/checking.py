"""Reads each image once before a training: what cannot be read is told at once, and all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from freezekit.data.eight_bits import in_8_bits
from freezekit.data.folder import ImageList
from freezekit.data.own_datasets import UnreadableSampleError
from freezekit.data.reading import read_batches
from freezekit.data.samples import FileSamples
from freezekit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from PIL import Image
    from torch import Tensor

    from freezekit.data.found import Found, Part

SHOWN = 5
"""Images that a message names at most."""

BATCH = 16
"""Images that a process reads before it tells."""


def find_unreadable(
    found: Found, on_progress: Callable[[int, int], None] | None = None, workers: int = 0
) -> dict[str, str]:
    """Read all images, and return why some cannot be read, by name.

    Args:
        found: The images.
        on_progress: Is told how many images are done, and of how many.
        workers: Processes that read files; 0: this one.

    Raises:
        DataError: A dataset of the user's own gives other labels than it says.
    """
    parts = [found.train, *([found.val] if found.val is not None else [])]
    total = sum(map(len, parts))
    done = 0
    bad: dict[str, str] = {}
    for part in parts:
        for read, unreadable in _read(part, workers):
            bad |= unreadable
            done += read
            if on_progress is not None:
                on_progress(done, total)
    return bad


def told(bad: dict[str, str], count: int) -> DataError:
    """Return the error that names images that cannot be read.

    Example:
        >>> print(told({"cat/1.png": "the file is empty"}, 20))
        1 of 20 images cannot be read: 'cat/1.png' (the file is empty); repair or remove them, or
        leave them out with --bad-images skip
    """
    shown = ", ".join(f"{name!r} ({why})" for name, why in list(bad.items())[:SHOWN])
    more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
    return DataError(
        f"{len(bad)} of {count} images cannot be read: {shown}{more}; repair or remove them, or "
        "leave them out with --bad-images skip"
    )


def _read(part: Part, workers: int) -> Iterator[tuple[int, dict[str, str]]]:
    """Give how many images were read, and which of them cannot be."""
    if isinstance(part.samples, FileSamples):
        images = ImageList(part.samples.root, part.samples.files)
        batches = [
            range(start, min(start + BATCH, len(part))) for start in range(0, len(part), BATCH)
        ]
        read = read_batches(images, _decoded, batches, workers)
        for batch, result in zip(batches, read, strict=True):
            yield (
                len(batch),
                {
                    part.names[each.index]: each.reason
                    if part.sizes[each.index]
                    else "the file is empty"
                    for each in result.unreadable
                },
            )
        return
    for index, name in enumerate(part.names):
        try:
            image, label = part.samples[index]
        except UnreadableSampleError as error:
            yield 1, {name: str(error).partition("cannot be read: ")[2]}
            continue
        if not isinstance(image, torch.Tensor):
            try:
                in_8_bits(image)
            except DataError as error:
                yield 1, {name: str(error)}
                continue
        if label != part.samples.labels[index]:
            raise DataError(
                f"the label of {name} is {label}, and the dataset's own list of labels says "
                f"{part.samples.labels[index]}; correct the list, or remove it"
            )
        yield 1, {}


def _decoded(image: Image.Image) -> Tensor:
    image.load()
    in_8_bits(image)  # refuses what a training cannot take either
    return torch.empty(0)
