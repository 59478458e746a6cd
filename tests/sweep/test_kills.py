"""A sweep that is killed goes on, and has the result of one that was not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from freezekit.sweep.store import load_sweep
from tests.sweep.test_command import TINY, same

if TYPE_CHECKING:
    from collections.abc import Callable

    Invoke = Callable[..., subprocess.CompletedProcess[str]]

ROOT = Path(__file__).parents[2]
GIVEN = (*TINY, "-s", "head-only", "--lr", "1e-3,1e-2", "--seeds", "2", "--epochs", "3")
GIVEN = (*GIVEN, "--no-early-stopping")
ENDS_IN = 200.0  # seconds, on a busy machine


def start(photos: Path, path: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "freezekit", *GIVEN, "--data", str(photos), "-o", str(path)]
    found_in = [str(ROOT), str(ROOT / "plugins"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [*command, *more],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(found_in)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(holds: Callable[[], object], sweep: subprocess.Popen[str]) -> None:
    """Wait for something that a sweep does."""
    end = time.monotonic() + ENDS_IN
    while not holds():
        assert sweep.poll() is None, sweep.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


def answers(path: Path) -> int:
    return len(list(path.with_suffix(".trials").glob("answers/*.json")))


@pytest.mark.slow
def test_killed_in_many_ways_it_goes_on_with_the_same_bits(
    invoke: Invoke, photos: Path, tmp_path: Path
):
    whole, path = tmp_path / "whole.json", tmp_path / "s.json"
    done = invoke(*GIVEN, "--data", str(photos), "-o", str(whole))
    assert done.returncode == 0, done.stderr

    sweep = start(photos, path)  # killed in the first training, after an epoch of it
    checkpoints = path.with_suffix(".trials") / "checkpoints"
    until(lambda: any(checkpoints.glob("*/checkpoint.pt")), sweep)
    sweep.kill()
    sweep.communicate()
    assert answers(path) < answers(whole)

    sweep = start(photos, path, "--resume")  # Ctrl-C among the pilots
    until(lambda: answers(path) >= 4, sweep)
    processes = psutil.Process(sweep.pid).children(recursive=True)
    sweep.send_signal(signal.SIGINT)
    said = end(sweep, 130)
    assert "interrupted; what was trained is kept, and --resume goes on" in said
    assert "Traceback" not in said
    assert not load_sweep(path).complete
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert not alive

    done = invoke(*GIVEN, "--data", str(photos), "-o", str(path), "--resume")
    assert done.returncode == 0, done.stderr
    assert answers(path) == answers(whole)
    assert same(load_sweep(path)) == same(load_sweep(whole))


def end(sweep: subprocess.Popen[str], code: int) -> str:
    """Wait for the end of a sweep, and return what it said."""
    _, said = sweep.communicate(timeout=ENDS_IN)
    assert sweep.returncode == code, said
    return said
