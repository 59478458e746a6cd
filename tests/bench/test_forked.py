"""The process that forks others: what these measure, when it is not used, and how it ends."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from freezekit.bench.forked import Forked, ForkServer
from freezekit.bench.processes import Event, Workers, job_for, worker_environment
from freezekit.results.records import Workload
from freezekit.results.variant import Variant

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux")


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    with ForkServer() as found:
        found.prepare("timm:test_resnet", worker_environment())
        yield found


def job(model: str, kind: str = "memory", lean: bool = False) -> Event:
    workload = Workload(model, batch_size=2, image_size=32)
    return job_for(kind, workload, [Variant("first-n-stages:n=2", lean)], (), 1)


def events(server: ForkServer | None, asked: Event) -> list[Event]:
    with Workers(server) as workers:
        return list(workers.events(asked))


@pytest.mark.parametrize("lean", [False, True])
@pytest.mark.parametrize("kind", ["static", "memory"])
def test_a_forked_process_measures_what_a_new_one_does(
    server: ForkServer, kind: str, lean: bool
) -> None:
    asked = job("timm:test_resnet", kind, lean)
    new, forked = events(None, asked), events(server, asked)
    if kind == "memory":  # the resident size differs between any two processes
        sizes = [found[-1]["memory"].pop("process_bytes") for found in (new, forked)]
        assert abs(sizes[0] - sizes[1]) < 0.1 * sizes[0]
    assert forked == new


def test_the_memory_of_the_starting_process_does_not_count() -> None:
    held = bytearray(2**30)
    held[:: 2**12] = b"1" * len(held[:: 2**12])  # every page, so that it is resident
    process_bytes = events(None, job("timm:test_resnet"))[-1]["memory"]["process_bytes"]
    assert process_bytes < len(held)


def test_each_forked_process_is_a_fresh_one(server: ForkServer, tmp_path: Path) -> None:
    (tmp_path / "counts.py").write_text(
        "import os, torch\n"
        "assert getattr(torch, 'was_with', os.getpid()) == os.getpid()\n"
        "torch.was_with = os.getpid()\n"
        "def build(): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 2))\n"
    )
    for _ in range(2):
        found = events(server, job(f"{tmp_path}/counts.py:build", "plans"))
        assert found[-1]["event"] == "plan", found


def test_what_a_model_leaves_to_the_end_is_done(server: ForkServer, tmp_path: Path) -> None:
    (tmp_path / "leaves.py").write_text(
        "import atexit, pathlib, torch, threading, time\n"
        f"done = pathlib.Path({str(tmp_path)!r})\n"
        "atexit.register(lambda: (done / 'at-exit').touch())\n"
        "def work():\n"
        "    time.sleep(0.5)\n"
        "    (done / 'thread').touch()\n"
        "threading.Thread(target=work).start()\n"
        "def build(): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 2))\n"
    )
    assert events(server, job(f"{tmp_path}/leaves.py:build", "plans"))[-1]["event"] == "plan"
    assert (tmp_path / "at-exit").exists()
    assert (tmp_path / "thread").exists()


def test_the_number_of_a_process_is_its_own_until_its_end_is_known(server: ForkServer) -> None:
    stderr = os.open(os.devnull, os.O_WRONLY)
    process = server.fork("no_such_module", stderr)
    os.close(stderr)
    assert isinstance(process, Forked)
    process.stdin.write(b"{}\n")
    process.stdin.close()
    process.stdout.close()
    while _state(process.pid) != "Z":
        time.sleep(0.05)
    assert process.wait() == 1
    assert process.poll() == 1
    assert not Path(f"/proc/{process.pid}").exists()


def test_a_library_with_a_thread_means_new_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    with ForkServer() as server:
        server.prepare("timm:test_resnet", worker_environment())
        assert server.fork("freezekit.bench.worker", stderr=2) is None
        assert events(server, job("timm:test_resnet", "plans"))[-1]["event"] == "plan"


@pytest.mark.parametrize("code", ["raise SystemExit(3)", "import os; os.kill(os.getpid(), 9)"])
def test_a_server_that_cannot_import_means_new_processes(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "timm.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    with ForkServer() as server:
        server.prepare("my.py:build", worker_environment())
        assert server.fork("freezekit.bench.worker", stderr=2) is None
        found = events(server, job("torchvision:resnet18", "plans"))
        assert found[-1]["event"] == "plan"


def test_where_the_system_tells_no_ends_processes_are_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    with ForkServer() as server:
        server.prepare("timm:test_resnet", worker_environment())
        assert server.fork("freezekit.bench.worker", stderr=2) is None


def test_a_server_that_is_killed_takes_its_processes_along(tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text(
        "import os, pathlib, time\n"
        "def build():\n"
        f"    pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n"
        "    time.sleep(1000)\n"
    )
    with ForkServer() as server:
        server.prepare("torchvision:resnet18", worker_environment())
        with Workers(server) as workers:
            found = workers.events(job(f"{tmp_path}/waits.py:build", "plans"))
            assert next(found)["event"] == "environment"
            while not (tmp_path / "pid").exists():
                time.sleep(0.05)
            os.kill(server._process.pid, signal.SIGKILL)
            (last,) = found
            assert last["event"] == "broken"
            assert "SIGKILL" in last["error"]
            assert events(server, job("timm:test_resnet", "plans"))[-1]["event"] == "plan"


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
