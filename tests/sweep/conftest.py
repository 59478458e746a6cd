"""Real sweeps on a few small images."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from freezekit.engines import local
from tests import fork_server

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 images of two classes that a network can tell apart."""
    folder: Path = tmp_path_factory.mktemp("photos")
    draws = np.random.default_rng(0)
    for number in range(24):
        path = folder / ("red", "blue")[number % 2] / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        pixels = draws.random((32, 32, 3)) * 120
        pixels[..., 2 * (number % 2)] += 40 + 60 * draws.random()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return folder


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command in this process; the trainings are forked from one that all tests share."""
    monkeypatch.setattr(local, "ForkServer", lambda: nullcontext(fork_server.SERVER))
    return fork_server.run
