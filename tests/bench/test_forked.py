"""The process that forks others: what these measure, when it is not used, and how it ends."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from freezekit.bench.forked import Forked, ForkServer
from freezekit.bench.processes import Event, Workers, job_for, worker_environment
from freezekit.results.records import Workload
from freezekit.results.variant import Variant
from tests.sampled import sampled

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux")


STOCK, LEAN = (Variant("first-n-stages:n=2", lean) for lean in (False, True))
HELD_BYTES = 2**30


def job(model: str, kind: str, *variants: Variant) -> Event:
    workload = Workload(model, batch_size=2, image_size=32)
    return job_for(kind, workload, variants or [STOCK], (), 1)


def events(server: ForkServer | None, asked: Event) -> list[Event]:
    with Workers(server) as workers:
        return list(workers.events(asked))


@pytest.fixture(scope="module")
def measured_anew() -> Event:
    """The memory of a stock step in a new process, which a large process started."""
    held = bytearray(HELD_BYTES)
    held[:: 2**12] = b"1" * len(held[:: 2**12])  # every page, so that it is resident
    return events(None, job("timm:test_resnet", "memory"))[-1]


def test_a_forked_process_counts_what_a_new_one_does(fork_server: ForkServer) -> None:
    asked = job("timm:test_resnet", "static", STOCK, LEAN)
    forked, new = (
        [e for e in events(server, asked) if e["event"] != "doing"]  # the first may compile lean
        for server in (fork_server, None)
    )
    assert forked == new


@pytest.mark.parametrize("variant", sampled([LEAN, STOCK], every=2), ids=["lean", "stock"])
@pytest.mark.exhaustive
def test_a_forked_process_measures_what_a_new_one_does(
    fork_server: ForkServer, variant: Variant, measured_anew: Event
) -> None:
    asked = job("timm:test_resnet", "memory", variant)
    (forked,) = events(fork_server, asked)
    new = measured_anew if variant == STOCK else events(None, asked)[-1]
    sizes = [found["memory"]["process_bytes"] for found in (new, forked)]
    assert abs(sizes[0] - sizes[1]) < 0.1 * sizes[0]
    # The resident size differs between any two processes.
    assert forked == new | {"memory": new["memory"] | {"process_bytes": sizes[1]}}


def test_the_memory_of_the_starting_process_does_not_count(measured_anew: Event) -> None:
    assert measured_anew["memory"]["process_bytes"] < HELD_BYTES


def is_measured(server: ForkServer, folder: Path) -> bool:
    """Tell whether a model, which needs torch alone, is measured all the same."""
    (folder / "small.py").write_text(
        "from torch import nn\n"
        "def build(): return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(3600, 2))\n"
    )
    asked = job(f"{folder}/small.py:build", "memory", Variant("full", lean=False))
    return events(server, asked)[-1]["event"] == "memory"


def test_each_forked_process_is_a_fresh_one(fork_server: ForkServer, tmp_path: Path) -> None:
    (tmp_path / "counts.py").write_text(
        "import os, torch\n"
        "assert getattr(torch, 'was_with', os.getpid()) == os.getpid()\n"
        "torch.was_with = os.getpid()\n"
        "def build(): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 2))\n"
    )
    for _ in range(2):
        found = events(fork_server, job(f"{tmp_path}/counts.py:build", "plans"))
        assert found[-1]["event"] == "plan", found


def test_what_a_model_leaves_to_the_end_is_done(fork_server: ForkServer, tmp_path: Path) -> None:
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
    assert events(fork_server, job(f"{tmp_path}/leaves.py:build", "plans"))[-1]["event"] == "plan"
    assert (tmp_path / "at-exit").exists()
    assert (tmp_path / "thread").exists()


def test_the_number_of_a_process_is_its_own_until_its_end_is_known(fork_server: ForkServer) -> None:
    stderr = os.open(os.devnull, os.O_WRONLY)
    process = fork_server.fork("no_such_module", stderr)
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


@pytest.mark.exhaustive
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
        assert is_measured(server, tmp_path)


@pytest.mark.parametrize(
    "code", sampled(["import os; os.kill(os.getpid(), 9)", "raise SystemExit(3)"], every=2)
)
def test_a_server_that_cannot_import_means_new_processes(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torchvision.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    with ForkServer() as server:
        server.prepare("my.py:build", worker_environment())
        assert server.fork("freezekit.bench.worker", stderr=2) is None
        assert is_measured(server, tmp_path)


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
        server.prepare("torchvision:resnet18", worker_environment())  # it needs no timm
        with Workers(server) as workers:
            found = workers.events(job(f"{tmp_path}/waits.py:build", "plans"))
            assert next(found)["event"] == "environment"
            while not (tmp_path / "pid").exists():
                time.sleep(0.05)
            os.kill(server._process.pid, signal.SIGKILL)
            (last,) = found
            assert last["event"] == "broken"
            assert "SIGKILL" in last["error"]
            assert is_measured(server, tmp_path)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
