"""What the bits of a training depend on beside its recipe; no torch."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from freezekit import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freezekit.training.records import DataFacts

LIBRARIES = ("torch", "torchvision", "timm")


def facts_of(data: DataFacts, metrics: Iterable[str]) -> dict[str, str]:
    """Return what all trainings of a sweep depend on.

    Args:
        data: The images.
        metrics: Texts of the user's own metrics, whose figures answers hold.

    Example:
        >>> from freezekit.training.records import DataFacts
        >>> facts_of(DataFacts("photos", ("a", "b"), 8, 2, "made", "1f"), [])["data"]
        '1f'
    """
    own = {f"metric {text}": file_digest(text) for text in metrics}
    return {"data": data.digest, "freezekit": __version__, **versions(), **own}


def versions() -> dict[str, str]:
    """Return the versions of the libraries that compute."""
    return {name: version(name) for name in LIBRARIES}


def file_digest(text: str) -> str:
    """Return the digest of the file in "path/to/file.py:function"; "" of what is no such text.

    What that file imports is not looked at.

    Example:
        >>> file_digest("timm:resnet18")
        ''
    """
    path = Path(text.rpartition(":")[0])
    if path.suffix != ".py" or not path.is_file():
        return ""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
