"""The samples of a data set: where the image is, and whether it is the same each time."""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.data import Dataset, default_collate

from freezekit.errors import CacheError
from freezekit.model.random_state import RandomState
from freezekit.verify.isolation import digest

if TYPE_CHECKING:
    from collections.abc import Sequence

# Any in this file: a data set may give anything.
Place = int | str | None
"""Where the image of a sample is: an index, a key, or None where the sample is the image."""
NEEDED = "let the data set give a float tensor for the image"
ASKED = 16
"""Samples that are looked at before a cache is filled: from all over the data set."""


def place_of(sample: Any, given: int | str | None) -> Place:
    """Return where the image of a sample is.

    Raises:
        CacheError: It is not where the user says, or cannot be told.
    """
    if isinstance(sample, Tensor) and given is None:
        if sample.is_floating_point():
            return None
        raise CacheError(f"a sample is a tensor of {sample.dtype}; {NEEDED}")
    is_nest = isinstance(sample, (Mapping, tuple, list))
    if is_nest and given is None:
        items = sample.items() if isinstance(sample, Mapping) else enumerate(sample)
        floats = [(k, v.dim()) for k, v in items if _is_float(v) and v.dim() >= 2]
        given = next((k for k, dim in floats if dim >= 3), next((k for k, _ in floats), None))
    try:
        image = sample[given] if is_nest else None
    except (KeyError, IndexError, TypeError):
        image = None
    if image is not None and not _is_float(image):
        kind = str(image.dtype) if isinstance(image, Tensor) else type(image).__name__
        raise CacheError(f"the image of a sample, at {given!r}, is {kind}; {NEEDED}")
    if image is None:
        raise CacheError(
            f"a sample is {_text(sample)}: no image is found in it; say where it is, as in "
            f"cache(dataset, image=0) or image='pixel_values', and {NEEDED}"
        )
    return given


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


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
        self.dataset = dataset
        self.views = views
        self.seed = seed
        self.samples: int = len(dataset)

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
        except Exception as error:
            error.add_note(f"This was sample {index % self.samples}, while a cache was filled.")
            raise
        finally:
            before.restore()


def spread(count: int, most: int) -> list[int]:
    """Return a few indices from all over a data set.

    Example:
        >>> spread(100, 4), spread(2, 4)
        ([0, 33, 66, 99], [0, 1])
    """
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def check_samples(views: Viewed, place: Place, *, is_vouched_for: bool) -> str:
    """Return a digest of a few samples, which are the same each time.

    Args:
        views: Of the data set.
        place: Where images are.
        is_vouched_for: Whether the user gave a version of the data. Then a data set may draw random
            numbers, as long as the samples that are looked at do not change.

    Raises:
        CacheError: A sample is at random and there is one view, or images have different shapes.
    """
    asked = spread(len(views), ASKED)
    samples = [views[index] for index in asked]
    shapes = {tuple(image_in(sample, place).shape) for sample in samples}
    if len(shapes) > 1:
        raise CacheError(
            f"the images have different shapes, such as {' and '.join(map(str, sorted(shapes)))}: "
            "resize or crop them alike; a cache has one row of one length for each"
        )
    for index in asked if views.views == 1 else ():
        before = RandomState.now()
        one = digest_of(views.dataset[index])
        draws = before != RandomState.now()
        is_same = one == digest_of(views.dataset[index])
        before.restore()
        if not is_same or (draws and not is_vouched_for):
            what = "draws random numbers" if is_same else "is another one when it is asked again"
            raise CacheError(
                f"sample {index} {what}: the data set augments at random. A cache would keep one "
                "draw for the whole training. Take the transforms of an evaluation, or say how "
                "many draws are kept: views=4"
            )
    found = hashlib.sha256(f"{len(views)}".encode())
    for sample in samples:
        found.update(digest_of(sample))
    return found.hexdigest()[:16]


def digest_of(sample: Any) -> bytes:
    """Return a digest of all that a sample has: its image, its labels."""
    found = hashlib.sha256()
    parts: Sequence[bytes]
    for value in pytree.tree_leaves(sample):
        if isinstance(value, Tensor):
            parts = digest([value])
        elif isinstance(value, (int, float, str, bytes, bool)) or value is None:
            parts = [repr(value).encode()]
        elif hasattr(value, "tobytes"):  # of NumPy
            parts = [value.tobytes()]
        else:
            parts = [type(value).__name__.encode()]
        for part in parts:
            found.update(part)
    return found.digest()


class FirstOf:
    """Collates samples, and gives beside them what is kept of each: all but the image.

    Attributes:
        place: Where the image is.
        only_image: Whether a batch has the images alone, as nothing else is needed.
    """

    def __init__(self, place: Place, *, only_image: bool) -> None:
        self.place = place
        self.only_image = only_image

    def __call__(self, samples: Sequence[Any]) -> tuple[list[Any], Any]:
        """Return what is kept of each sample, and the batch."""
        kept = [with_image(sample, self.place, None) for sample in samples]
        wanted = [image_in(s, self.place) for s in samples] if self.only_image else list(samples)
        try:
            return kept, default_collate(wanted)
        except (TypeError, RuntimeError) as error:
            raise CacheError(
                f"samples make no batch{_culprit(wanted)}: {error!s:.200}; give tensors of one "
                "shape, numbers, texts, and tuples or mappings of these"
            ) from error


def _culprit(samples: Sequence[Any]) -> str:
    """Return at which key samples make no batch."""
    for key in samples[0] if isinstance(samples[0], Mapping) else ():
        try:
            default_collate([sample[key] for sample in samples])
        except (TypeError, RuntimeError, KeyError):
            return f" at {key!r}"
    return ""


def _text(sample: Any) -> str:
    if isinstance(sample, Mapping):
        return f"a mapping of {', '.join(map(repr, sample))}"
    if isinstance(sample, (tuple, list)):
        return f"a {type(sample).__name__} of {', '.join(type(v).__name__ for v in sample)}"
    return f"a {type(sample).__name__}"
