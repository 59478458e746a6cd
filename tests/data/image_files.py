"""Folders of small images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path


def put_images(root: Path, counts: dict[str, int]) -> Path:
    """Write images of noise into folders, by their paths below the root."""
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            noise = Image.effect_noise((20, 16), 10 + 3 * number).convert("RGB")
            noise.save(root / folder / f"{number}.png")
    return root
