"""Commands that end before anything is measured, without the start of an interpreter for each."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from freezekit.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TINY = ("timm:test_resnet", "--image-size", "32", "--batch-size", "2", "--threads", "1")


@pytest.fixture
def invoke() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command in this process, and return what a process would have returned.

    Python and torch take seconds to start. Use it for what a command refuses; what it measures is
    tested in a process of its own, as a person runs it.
    """

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        done = CliRunner(env={"COLUMNS": "80"}).invoke(main, args)
        return subprocess.CompletedProcess(args, done.exit_code, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def earlier_run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A result file of `full` and `head-only`, counted once for all tests that begin with one."""
    path: Path = tmp_path_factory.mktemp("earlier") / "r.json"
    command = [sys.executable, "-m", "freezekit", "bench", *TINY]
    asked = ("--static", "-s", "head-only", "-o", str(path))
    done = subprocess.run([*command, *asked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return path.read_text()
