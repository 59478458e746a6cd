"""Photographs that no camera took: noise with a colour for each class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from freezekit.data.loading import load_training_data

if TYPE_CHECKING:
    from pathlib import Path

    from freezekit.data.training_data import TrainingData


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three classes of ten images."""
    root, draw = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for channel, name in enumerate(("red", "green", "blue")):
        (root / name).mkdir()
        for number in range(10):
            pixels = draw.integers(0, 100, (40, 40, 3), dtype=np.uint8)
            pixels[..., channel] += 60
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="session")
def data(photos: Path) -> TrainingData:
    """24 images to train, 6 to validate."""
    return load_training_data(str(photos))
