"""Numbers that a result file cannot hold are refused as options; no file is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from freezekit.cli import main
from freezekit.errors import ModelError
from freezekit.results.records import MOST

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = {
    "bench": ("--batch-size", "--image-size", "--num-classes", "--seed", "--threads"),
    "fit": ("--batch-size", "--image-size", "--num-classes", "--seed", "--threads"),
    "verify": ("--batch-size", "--image-size", "--num-classes", "--seed", "--steps"),
    "show": ("--image-size", "--num-classes", "--epochs", "--steps-per-epoch"),
}


@pytest.mark.parametrize(
    ("command", "option"), [(name, option) for name in COMMANDS for option in COMMANDS[name]]
)
def test_more_than_64_bits_are_wrong_usage(command: str, option: str) -> None:
    result = CliRunner().invoke(main, [command, "timm:test_resnet", option, str(MOST + 1)])
    assert result.exit_code == 2, result.output
    assert f"'{option}': {MOST + 1} has more than 64 bits; the largest is {MOST}" in result.stderr


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [
        ("bench", "--seed", str(-MOST - 1)),
        ("bench", "--budget", "inf"),
        ("bench", "--budget", "nan"),
        ("fit", "--margin", "1e999"),
        ("fit", "--memory", "99999999999GiB"),
    ],
)
def test_other_numbers_that_no_file_holds(command: str, option: str, value: str) -> None:
    result = CliRunner().invoke(main, [command, "timm:test_resnet", option, value])
    assert result.exit_code == 2, result.output
    assert f"Invalid value for '{option}': " in result.stderr


def test_figures_that_no_file_holds_are_wrong_usage(tmp_path: Path) -> None:
    """Each option is small enough, and what follows from them is not."""
    path = tmp_path / "r.json"
    args = ("--static", "-s", "head-only", "-o", str(path), "--image-size", "64")
    batch = ("--batch-size", str(10**13))
    result = CliRunner().invoke(main, ["bench", "timm:test_resnet", *args, *batch])
    assert result.exit_code == ModelError.exit_code == 2, result.output
    assert "of more than 64 bits: use a smaller --batch-size or --image-size" in result.stderr
    assert not path.exists()
