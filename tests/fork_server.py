"""One process that forks measuring processes, for all tests of a worker that need no other one.

A run of `freezekit bench` or `freezekit fit` starts its own, which imports torch, torchvision and
timm for seconds and then forks for each row. Here runs take place one after the other in this
process, and all fork from one. What they measure is measured as ever: in forked processes.
"""

from __future__ import annotations

import atexit
import subprocess
from contextlib import nullcontext

import pytest
from click.testing import CliRunner

from freezekit.bench import forked
from freezekit.cli import main
from freezekit.fit import run as fit

SERVER = forked.ForkServer()
"""Its process is started by the first run."""

atexit.register(SERVER.__exit__, None, None, None)


def run(*args: str, columns: int = 80) -> subprocess.CompletedProcess[str]:
    """Run a command in this process; return what a process would have returned.

    Args:
        *args: The words of the command.
        columns: Of the terminal.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module in (forked, fit):  # where the commands find it
            patch.setattr(module, "ForkServer", lambda: nullcontext(SERVER))
        done = CliRunner(env={"COLUMNS": str(columns)}).invoke(main, args)
    return subprocess.CompletedProcess(args, done.exit_code, done.stdout, done.stderr)
