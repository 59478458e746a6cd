"""Locks beside output files, between real processes and real users."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from freezekit.errors import OutputError
from freezekit.results.locking import locked

if TYPE_CHECKING:
    from collections.abc import Iterator

HOLD = (
    "import sys; from freezekit.results.locking import locked\n"
    "with locked([sys.argv[1]]): print('held', flush=True); sys.stdin.read()"
)


def holder(path: Path, **env: str) -> subprocess.Popen[str]:
    """Start a process that holds the file until its stdin ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_runs_with_different_temporary_folders_exclude_one_another(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    path = tmp_path / "r.json"
    with holder(path, TMPDIR=str(tmp_path / "tmp")) as other:
        with pytest.raises(OutputError, match="another run is writing"), locked([str(path)]):
            pass
        other.communicate()
    with locked([str(path), str(tmp_path / "s.json")]):
        assert sorted(p.name for p in tmp_path.iterdir()) == [".r.json.lock", ".s.json.lock", "tmp"]
    assert [p.name for p in tmp_path.iterdir()] == ["tmp"], "nothing is left behind"


def test_what_a_killed_run_leaves_behind_is_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    with holder(path) as other:
        other.send_signal(signal.SIGKILL)
    assert (tmp_path / ".r.json.lock").exists()
    with locked([str(path)]):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_was_opened_before_it_was_removed_is_none(tmp_path: Path) -> None:
    """Of two runs that wait behind a third, one opens the old file and one makes a new one."""
    script = (
        "import sys, os; from pathlib import Path; import freezekit.results.locking as it\n"
        "opened = it._opened\n"
        "def slowly(lock):\n"
        "    found = opened(lock)\n"
        "    if not done:\n"
        "        done.append(1); print('opened', flush=True); sys.stdin.readline()\n"
        "    return found\n"
        "done = []; it._opened = slowly\n"
        "try:\n"
        "    with it.locked([sys.argv[1]]): print('held')\n"
        "except it.OutputError as error: print(error)\n"
    )
    path = tmp_path / "r.json"
    with locked([str(path)]):
        second = subprocess.Popen(
            [sys.executable, "-c", script, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert second.stdout is not None
        assert second.stdout.readline() == "opened\n"
    with locked([str(path)]):
        said, _ = second.communicate("\n")
    assert said.startswith("another run is writing")


ANOTHER_USER = """
import os, sys
from freezekit.errors import OutputError
from freezekit.results.locking import locked
os.setuid(65534)
try:
    with locked([sys.argv[1]]):
        print("held")
except OutputError as error:
    print(error)
"""


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that all users can reach and write to, as /tmp."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o1777)
        yield Path(folder)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act as two users")
def test_the_lock_of_another_user(shared_folder: Path) -> None:
    path, lock = shared_folder / "r.json", shared_folder / ".r.json.lock"

    def asked_by_another() -> str:
        command = [sys.executable, "-c", ANOTHER_USER, str(path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert asked_by_another() == "held\n"
    lock.touch(0o644)
    assert asked_by_another() == "held\n", "left behind by a run of another user: no lock"
    with holder(path) as other:
        assert asked_by_another().startswith("another run is writing")
        other.communicate()
    lock.touch(0o600)
    said = asked_by_another()
    assert said.startswith(f"cannot lock {str(path)!r} against other runs: ")
    assert "permission denied; if no run is writing, remove that file, or name another" in said
    with locked([str(path)]):
        pass
    assert not lock.exists()


def test_a_lock_that_cannot_be_had_says_why(tmp_path: Path) -> None:
    (tmp_path / ".r.json.lock").mkdir()
    with (
        pytest.raises(
            OutputError, match=r"cannot lock .*r\.json' against other runs: .*lock': is a"
        ),
        locked([str(tmp_path / "r.json")]),
    ):
        pass
