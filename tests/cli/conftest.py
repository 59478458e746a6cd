"""Commands without the start of an interpreter for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fork_server import run

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

TINY = ("timm:test_resnet", "--image-size", "32", "--batch-size", "2", "--threads", "1")


@pytest.fixture
def invoke() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command in this process, and return what a process would have returned."""
    return run


@pytest.fixture(scope="session")
def earlier_run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A result file of `full` and `head-only`, counted once for all tests that begin with one."""
    path: Path = tmp_path_factory.mktemp("earlier") / "r.json"
    done = run("bench", *TINY, "--static", "-s", "head-only", "-o", str(path))
    assert done.returncode == 0, done.stderr
    return path.read_text()
