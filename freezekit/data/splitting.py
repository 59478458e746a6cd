"""A stratified split into samples for training and samples for validation."""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def stratified_split(
    labels: Sequence[int], fraction: float, seed: int, names: Sequence[str] = ()
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Divide samples so that each class gives about the same part.

    Each class gives at least one sample to both sides; a class of one sample gives it to the first.
    Within a class, samples are sorted by the SHA-256 of seed and name, and the first ones are held
    out. So the split is the same on each machine and with each version of a library, and a sample
    that is added moves few others.

    Args:
        labels: The number of the class of each sample.
        fraction: Of the samples that are held out, between 0 and 1.
        seed: Another one makes another split.
        names: Of the samples, all different; () for their places.

    Returns:
        Places of the samples that stay, and of those that are held out; each in ascending order.

    Example:
        >>> stratified_split([0, 0, 0, 0, 1, 1, 2], 0.25, seed=0)
        ((0, 2, 3, 5, 6), (1, 4))
    """
    by_class: dict[int, list[int]] = {}
    for place, label in enumerate(labels):
        by_class.setdefault(label, []).append(place)
    held: set[int] = set()
    for places in by_class.values():
        count = min(max(1, round(fraction * len(places))), len(places) - 1)
        held.update(sorted(places, key=lambda place: _rank(seed, place, names))[:count])
    return tuple(p for p in range(len(labels)) if p not in held), tuple(sorted(held))


def _rank(seed: int, place: int, names: Sequence[str]) -> bytes:
    name = names[place] if names else str(place)
    return sha256(os.fsencode(f"{seed}\n{name}")).digest()
