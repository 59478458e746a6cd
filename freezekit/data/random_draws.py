"""Seeds that are made of numbers, such as those of a seed, an epoch and a sample."""

from __future__ import annotations

import random
import sys
from hashlib import blake2b

import torch


def derived_seed(*parts: int | str) -> int:
    """Return a seed of 63 bits that depends on all parts, the same on each machine.

    Example:
        >>> derived_seed(0, 1, 2) == derived_seed(0, 1, 2), derived_seed(0, 1) == derived_seed(1, 0)
        (True, False)
    """
    text = " ".join(map(str, parts)).encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest()) >> 1


def seed_cpu(seed: int) -> None:
    """Seed the generators of PyTorch on the CPU, of Python, and of NumPy if it is imported.

    It takes some microseconds. `torch.manual_seed` seeds the generators of all devices too, which
    no transform of an image uses.
    """
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)
