"""Batches of a training and of its validation, the same with any number of processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from freezekit.data.random_draws import derived_seed, seed_cpu
from freezekit.data.reading import no_interrupt_for_children
from freezekit.errors import DataError
from freezekit.model.random_state import RandomState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from freezekit.data.training_data import Samples, TrainingData


class TensorSamples(Dataset["tuple[Tensor, int]"]):
    """Samples as a model takes them: (tensor, number of the class).

    What a transform draws at random, and what a dataset of the user's own draws, depends on seed,
    epoch and index alone: not on the order of samples, on the number of processes that read them,
    or on what was read before. The generators of PyTorch on the CPU, of Python and of NumPy are
    seeded for each sample, and have their state again afterwards.

    Args:
        samples: The samples. Images of PIL are transformed, tensors are taken as they are.
        transform: From an image of PIL to a tensor.
        seed: Of the training.
        epoch: From 1.
    """

    def __init__(
        self,
        samples: Samples,
        transform: Callable[[Any], Tensor],  # Any: an image of PIL
        seed: int = 0,
        epoch: int = 0,
    ) -> None:
        self.samples = samples
        self.transform = transform
        self.seed = seed
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return a sample.

        Raises:
            DataError: It cannot be read.
        """
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, int]]:
        """Return samples; a `DataLoader` asks for those of a batch at once."""
        before = RandomState.now()  # to save and restore takes 200 µs, to seed takes 10
        try:
            return [self._sample(index) for index in indices]
        finally:
            before.restore()

    def _sample(self, index: int) -> tuple[Tensor, int]:
        seed_cpu(derived_seed("sample", self.seed, self.epoch, index))
        image, label = self.samples[index]
        return image if isinstance(image, Tensor) else self.transform(image), label


class BatchLoader(DataLoader["tuple[Tensor, int]"]):
    """A `DataLoader` that draws no random number, and whose errors are of one line."""

    def __init__(self, samples: TensorSamples, batches: list[list[int]], workers: int) -> None:
        super().__init__(
            samples,
            batch_sampler=batches,
            num_workers=workers,
            generator=torch.Generator(),  # or it draws from the generator that dropout uses
        )

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # Any: tensors of a batch
        """Give (images, labels) for each batch."""
        with no_interrupt_for_children():
            batches = super().__iter__()
        try:
            yield from batches
        except DataError as error:  # one of a worker contains its traceback
            raise DataError(str(error).strip().rpartition("DataError: ")[2]) from error


def train_loader(
    data: TrainingData,
    transform: Callable[[Any], Tensor],  # Any: an image of PIL
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    workers: int = 0,
) -> BatchLoader:
    """Return the batches of one epoch of a training.

    Their order depends on seed and epoch, and what is drawn for a sample on seed, epoch and index.
    So an epoch is the same for each candidate of a sweep, after a resume, and with any number of
    processes. A last batch of a single sample is left out, because a batch norm in training mode
    refuses it. Which sample that is differs from epoch to epoch.

    Args:
        data: The samples.
        transform: From an image of PIL to a tensor.
        batch_size: Samples of a batch.
        seed: Of the training.
        epoch: From 1.
        workers: Processes that read; 0: this one.

    Returns:
        Batches of (images, labels): tensors of shape (samples, channels, height, width) and
        (samples,).

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from torchvision.transforms.functional import to_tensor
        >>> from freezekit.data.loading import load_training_data
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for number in range(8):
        ...         path = Path(root) / ("cat" if number < 4 else "dog") / f"{number}.png"
        ...         path.parent.mkdir(exist_ok=True)
        ...         Image.new("RGB", (8, 8)).save(path)
        ...     data = load_training_data(root)
        ...     loader = train_loader(data, to_tensor, batch_size=4, seed=0, epoch=1)
        ...     [(tuple(images.shape), len(labels)) for images, labels in loader]
        [((4, 3, 8, 8), 4), ((2, 3, 8, 8), 2)]
    """
    generator = torch.Generator().manual_seed(derived_seed("order", seed, epoch))
    order = torch.randperm(len(data.train), generator=generator).tolist()
    batches = batches_of(order, batch_size)
    if len(batches) > 1 and batch_size > 1 and len(batches[-1]) == 1:
        del batches[-1]
    return BatchLoader(TensorSamples(data.train, transform, seed, epoch), batches, workers)


def val_loader(
    data: TrainingData,
    transform: Callable[[Any], Tensor],  # Any: an image of PIL
    *,
    batch_size: int,
    workers: int = 0,
) -> BatchLoader:
    """Return the batches of a validation: all samples, in their order.

    Args:
        data: The samples.
        transform: From an image of PIL to a tensor.
        batch_size: Samples of a batch.
        workers: Processes that read; 0: this one.
    """
    batches = batches_of(list(range(len(data.val))), batch_size)
    return BatchLoader(TensorSamples(data.val, transform), batches, workers)


def batches_of(order: list[int], batch_size: int) -> list[list[int]]:
    """Divide places into batches; the last one may be smaller.

    Example:
        >>> batches_of([3, 0, 4, 1, 2], 2)
        [[3, 0], [4, 1], [2]]
    """
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
