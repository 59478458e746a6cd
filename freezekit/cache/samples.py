"""The samples of a data set: where the image is, and whether it is the same each time."""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from freezekit.errors import CacheError
from freezekit.model.random_state import RandomState
from freezekit.verify.isolation import digest

if TYPE_CHECKING:
    from collections.abc import Sequence

# Any in this file: a data set may give anything.
Place = int | str | None
"""Where the image of a sample is: an index, a key, or None where the sample is the image."""


def place_of(sample: Any, given: int | str | None) -> Place:
    """Return where the image of a sample is.

    Raises:
        CacheError: It is not where the user says, or cannot be told.
    """
    if isinstance(sample, Tensor) and given is None:
        return None
    if given is None:
        items = sample.items() if isinstance(sample, Mapping) else enumerate(sample)
        given = next((key for key, v in items if isinstance(v, Tensor) and v.dim() >= 2), None)
    try:
        image = sample[given]
    except (KeyError, IndexError, TypeError):
        image = None
    if not isinstance(image, Tensor) or not image.is_floating_point():
        raise CacheError(
            f"a sample is {_text(sample)}: no image is found in it; say where it is, as in "
            "cache(dataset, image=0) or image='pixel_values', and let the data set give a float "
            "tensor"
        )
    return given


def image_in(sample: Any, place: Place) -> Tensor:
    """Return the image of a sample or of a batch."""
    found: Tensor = sample if place is None else sample[place]
    return found


def with_image(sample: Any, place: Place, value: Any) -> Any:
    """Return a sample with another value where its image is."""
    if place is None:
        return value
    if type(sample) is tuple and place == 0:  # mostly, and at each sample that is read
        return (value, *sample[1:])
    if isinstance(sample, Mapping):
        return {**sample, place: value}
    values = [value if i == place else each for i, each in enumerate(sample)]
    return type(sample)(*values) if hasattr(sample, "_fields") else type(sample)(values)


class Viewed(Dataset[Any]):
    """A data set whose random augmentation is drawn from a seed of the sample and the view.

    Its length is that of all views: sample `i` of view `v` is at `v * len(dataset) + i`.
    """

    def __init__(self, dataset: Any, views: int, seed: int) -> None:
        self.dataset, self.views, self.seed = dataset, views, seed
        self.samples = len(dataset)

    def __len__(self) -> int:
        """Return the number of all views."""
        return self.views * self.samples

    def __getitem__(self, index: int) -> Any:
        """Return a view of a sample; random states are as before."""
        before = RandomState.now()
        seeded = int.from_bytes(hashlib.sha256(f"{self.seed} {index}".encode()).digest()[:4])
        torch.manual_seed(seeded)
        random.seed(seeded)
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed(seeded)
        try:
            return self.dataset[index % self.samples]
        finally:
            before.restore()


def check_samples(dataset: Any, place: Place, views: int) -> str:
    """Return a digest of a few samples, which are the same each time unless there are views.

    Raises:
        CacheError: A sample differs when it is asked again, or it has another shape.
    """
    count = len(dataset)
    asked = sorted({0, 1 % count, count // 2, count - 1})
    images = [image_in(dataset[index], place) for index in asked]
    shapes = {tuple(image.shape) for image in images}
    if len(shapes) > 1:
        raise CacheError(
            f"the images have different shapes, such as {' and '.join(map(str, sorted(shapes)))}: "
            "resize or crop them alike; a cache has one row of one length for each"
        )
    if views == 1:
        for index, image in zip(asked, images, strict=True):
            if not torch.equal(image, image_in(dataset[index], place)):
                raise CacheError(
                    f"sample {index} is another one when it is asked again: the data set augments "
                    "at random. A cache would keep one draw for the whole training. Take the "
                    "transforms of an evaluation, or say how many draws are kept: views=4"
                )
    found = hashlib.sha256(f"{count}".encode())
    for part in digest(images) if views == 1 else ():
        found.update(part)
    return found.hexdigest()[:16]


class FirstOf:
    """Collates samples, and gives beside them what is kept of each: all but the image."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def __call__(self, samples: Sequence[Any]) -> tuple[list[Any], Any]:
        """Return what is kept of each sample, and the batch."""
        kept = [with_image(sample, self.place, None) for sample in samples]
        try:
            return kept, default_collate(list(samples))
        except (TypeError, RuntimeError) as error:
            raise CacheError(
                f"samples make no batch: {error!s:.200}; give tensors of one shape, numbers, "
                "texts, and tuples or mappings of these"
            ) from error


def _text(sample: Any) -> str:
    if isinstance(sample, Mapping):
        return f"a mapping of {', '.join(map(repr, sample))}"
    if isinstance(sample, (tuple, list)):
        return f"a {type(sample).__name__} of {', '.join(type(v).__name__ for v in sample)}"
    return f"a {type(sample).__name__}"
