"""Read images in batches; those that cannot be read are told, and do not end the reading."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torch import Tensor

    from freezekit.data.folder import ImageList


@dataclass(frozen=True)
class Unreadable:
    """An image that cannot be read.

    Attributes:
        index: Its place in the list.
        file: Its path below the folder.
        reason: Why.
    """

    index: int
    file: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file!r} ({self.reason})"


@dataclass(frozen=True)
class ReadBatch:
    """Images that were read together.

    Attributes:
        indices: Places in the list of those that could be read.
        images: These, (images, channels, height, width); None where there are none.
        unreadable: The others.
    """

    indices: tuple[int, ...]
    images: Tensor | None
    unreadable: tuple[Unreadable, ...]


class ReadImages(Dataset["tuple[int, Tensor | Unreadable]"]):
    """The images of a list as a model takes them, by their place."""

    def __init__(self, images: ImageList, preprocessing: Callable[[Image.Image], Tensor]) -> None:
        self.images = images
        self.preprocessing = preprocessing

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[int, Tensor | Unreadable]:
        """Return the place and the image, or why it cannot be read."""
        file = self.images.files[index]
        try:
            with Image.open(self.images.root / file) as image:
                return index, self.preprocessing(image)
        except Exception as error:  # noqa: BLE001  # a broken file raises errors of many kinds
            said = " ".join(str(error).replace(str(self.images.root / file), file).split())
            return index, Unreadable(index, file, f"{type(error).__name__}: {said:.100}")


def read_batches(
    images: ImageList,
    preprocessing: Callable[[Image.Image], Tensor],
    batches: Iterable[Sequence[int]],
    workers: int = 0,
) -> Iterator[ReadBatch]:
    """Read images, batch by batch.

    Args:
        images: Where they are.
        preprocessing: From an image to what the model takes.
        batches: Places of the images of each batch.
        workers: Processes that read; 0: this one.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from freezekit import load_backbone
        >>> from freezekit.data.folder import find_images
        >>> from freezekit.data.preprocessing import preprocessing_of
        >>> how = preprocessing_of(load_backbone("timm:test_resnet", device="meta"), "", 32)
        >>> with tempfile.TemporaryDirectory() as root:
        ...     Image.new("RGB", (40, 50)).save(Path(root) / "a.png")
        ...     _ = (Path(root) / "b.png").write_bytes(b"no image")
        ...     (batch,) = read_batches(find_images(root), how, [[0, 1]])
        >>> batch.images.shape, [each.file for each in batch.unreadable]
        (torch.Size([1, 3, 32, 32]), ['b.png'])
    """
    loader = DataLoader(
        ReadImages(images, preprocessing),
        batch_sampler=[list(batch) for batch in batches],
        collate_fn=_together,
        num_workers=workers,
    )
    with no_interrupt_for_children():
        return iter(loader)


@contextmanager
def no_interrupt_for_children() -> Iterator[None]:
    """Let processes that start meanwhile not see Ctrl-C: this one ends them.

    A terminal sends it to all of them, and a reader that it ends is an error in this process.
    """
    block = getattr(signal, "pthread_sigmask", None)
    if block is None:  # on Windows
        yield
        return
    before = block(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        block(signal.SIG_SETMASK, before)


def _together(found: Sequence[tuple[int, Tensor | Unreadable]]) -> ReadBatch:
    # Stacked in the worker: each tensor that it hands over costs a file descriptor.
    good = [(index, value) for index, value in found if not isinstance(value, Unreadable)]
    return ReadBatch(
        tuple(index for index, _ in good),
        torch.stack([image for _, image in good]) if good else None,
        tuple(value for _, value in found if isinstance(value, Unreadable)),
    )
