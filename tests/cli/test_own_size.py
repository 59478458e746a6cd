"""A model of one's own that takes images of 32 pixels alone: every command finds that."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.sampled import exhaustive

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BUILD = """
from torch import nn
def build(): return nn.Sequential(
    nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
    nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
    nn.Flatten(), nn.Linear(8 * 16 * 16, 5))
"""


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("show",), "body"),
        exhaustive((("show", "--image-size", "32"), "body")),
        (("bench", "--static", "-s", "head-only", "--threads", "1"), ", 8x1x32x32, "),
        (("fit", "-s", "head-only", "--memory", "1MiB", "--threads", "1"), ", 1x32x32, "),
        exhaustive((("verify", "-s", "head-only"), "input (2, 1, 32, 32)")),
    ],
)
def test_the_input_is_found(
    command: tuple[str, ...],
    said: str,
    tmp_path: Path,
    invoke: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    (tmp_path / "my.py").write_text(BUILD)
    name, *options = command
    if name in ("show", "verify"):  # these run the model in the command's own process
        done = invoke(name, f"{tmp_path}/my.py:build", *options)
    else:
        done = subprocess.run(
            [sys.executable, "-m", "freezekit", name, "my.py:build", *options],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert said in done.stdout
