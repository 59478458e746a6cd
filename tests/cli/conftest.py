"""Commands that end before anything is measured, without the start of an interpreter for each."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from freezekit.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable


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
