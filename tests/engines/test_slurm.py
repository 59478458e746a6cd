"""Array jobs through submitit: on this machine, and on Slurm where there is one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from freezekit.engines.slurm import SlurmEngine
from freezekit.errors import EngineError
from tests.engines.test_local import ends, task

if TYPE_CHECKING:
    from freezekit.engines.records import Outcome

has_slurm = shutil.which("srun") is not None
answers = has_slurm and subprocess.run(["sinfo"], capture_output=True, check=False).returncode == 0
needs_slurm = pytest.mark.skipif(not answers, reason="needs Slurm: no sinfo answers")


@pytest.fixture(autouse=True)
def _processes_find_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))


def test_an_array_of_tasks(tmp_path: Path) -> None:
    tasks = [
        task("sum", "add", [1, 2], memory_bytes=2**30),
        task("reports", "reports", 2),
        task("facts", "facts"),
    ]
    engine = SlurmEngine(tmp_path, cluster="local", poll_seconds=0.1)
    found = {one.task: one for one in engine.run(tasks)}
    assert len(found) == len(tasks)
    assert (found["sum"].status, found["sum"].answer, found["sum"].attempts) == ("ok", 3, 1)
    assert found["reports"].answer == "done"
    assert found["facts"].answer["folder"] == str(Path.cwd())
    assert list(engine.run([])) == []


@pytest.mark.slow
@needs_slurm
def test_closing_the_iterator_cancels_the_array(tmp_path: Path) -> None:
    engine = SlurmEngine(tmp_path, minutes=5, poll_seconds=0.5)
    told = tmp_path / "pid"
    outcomes = engine.run(
        [task("waits", "tells", str(told), memory_bytes=1), task("sum", "add", [1], memory_bytes=1)]
    )
    assert next(outcomes).task == "sum"
    while not told.exists() or not told.read_text():
        time.sleep(0.1)
    outcomes.close()  # type: ignore[attr-defined]  # a generator
    assert ends(int(told.read_text()))


@pytest.mark.slow  # submitit waits for an answer of a job that has ended
def test_a_job_that_is_killed_says_where_its_log_is(tmp_path: Path) -> None:
    engine = SlurmEngine(tmp_path, cluster="local", poll_seconds=0.1)
    (found,) = engine.run([task("t", "fails", "exit")])
    assert found.status == "error"
    assert "of t ended without an answer" in str(found.error)
    assert str(tmp_path) in str(found.error)


@pytest.mark.skipif(has_slurm, reason="Slurm is here")
def test_without_slurm_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="needs the commands of Slurm, such as srun and sbatch"):
        SlurmEngine(tmp_path)


def test_without_submitit_it_is_said_what_to_install() -> None:
    code = (
        "import sys; sys.modules['submitit'] = None\n"
        "from freezekit.engines.slurm import SlurmEngine\n"
        "SlurmEngine('jobs')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'freezekit[slurm]'" in done.stderr.splitlines()[-1]


@pytest.mark.slow
@needs_slurm
def test_a_job_that_dies_on_slurm_says_how(tmp_path: Path) -> None:
    engine = SlurmEngine(tmp_path, minutes=5, poll_seconds=0.5)
    found = {
        one.task: one for one in engine.run([task("t", "fails", "exit"), task("s", "add", [1])])
    }
    assert found["s"].answer == 1
    assert found["t"].status == "error"
    assert re.search("of t ended without an answer, as FAILED: .*see", str(found["t"].error))


@pytest.mark.slow
@needs_slurm
def test_a_job_that_slurm_queues_again_goes_on(tmp_path: Path) -> None:
    engine = SlurmEngine(tmp_path / "jobs", minutes=5, poll_seconds=0.5)
    file = tmp_path / "steps"
    outcomes = engine.run([task("t", "counts_slowly", str(file))])
    found: list[Outcome] = []
    reader = threading.Thread(target=lambda: found.extend(outcomes))
    reader.start()
    while not file.exists():
        time.sleep(0.1)
    asked = ["squeue", "--noheader", "--states=R", "--format=%i"]
    (running,) = subprocess.check_output(asked, text=True).split()
    subprocess.run(["scontrol", "requeue", running], check=True)
    reader.join(240)  # Slurm waits two minutes before it begins a job again
    assert [(one.answer, one.attempts) for one in found] == [(20, 2)]
    assert [*map(int, file.read_text().split())] == [*range(20)]


@pytest.mark.slow
@needs_slurm
def test_an_array_on_slurm(tmp_path: Path) -> None:
    engine = SlurmEngine(tmp_path, minutes=5, poll_seconds=1)
    found = {one.task: one for one in engine.run([task(str(n), "add", [n]) for n in range(3)])}
    assert {name: one.answer for name, one in found.items()} == {"0": 0, "1": 1, "2": 2}
