"""The measuring processes: real ones, new or forked, that die in every way."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from freezekit.bench.processes import Workers, job_for
from freezekit.results.records import Workload
from freezekit.results.variant import Variant
from tests.sampled import sampled

if TYPE_CHECKING:
    from freezekit.bench.forked import ForkServer

DEADLY = """
import os, re, signal, sys, threading, time, torch
from torch import nn

class Deadly(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how = how
        self.fc = nn.Linear(3, 2)

    def forward(self, x):
        if not x.is_meta and type(x) is torch.Tensor:
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.how == "exit":
                print("last words", file=sys.stderr)
                os._exit(3)
            if self.how == "succeed":
                os._exit(0)
            if self.how == "script":
                sys.exit()
            if self.how == "memory":
                torch.empty(2**50)
        print("models may print")
        return self.fc(x.mean((2, 3)))

def kill(): return Deadly("kill")
def leave(): return Deadly("exit")
def memory(): return Deadly("memory")
def fine(): return Deadly("")
def succeed(): return Deadly("succeed")
def script(): return Deadly("script")

def thread():
    threading.Thread(target=time.sleep, args=(1000,)).start()
    return Deadly("")

def interrupt():
    thread()
    raise KeyboardInterrupt("from the model")

def child():
    if os.fork() == 0:  # it holds the pipe
        time.sleep(1000)
    return Deadly("kill")

def closes():
    os.closerange(3, 1000)
    os.kill(os.getpid(), signal.SIGTERM)

def asks():
    return Deadly(input())

def tell(how):
    with open(os.path.join(os.environ["TELLS"], how), "w") as file:
        file.write(str(os.getpid()))

def waits():
    tell("waits")
    time.sleep(1000)

def holds_the_lock():
    tell("holds_the_lock")
    re.match("(a|aa)+$", "a" * 100 + "b")

def stops():
    tell("stops")
    os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.fixture
def deadly(tmp_path: Path) -> str:
    (tmp_path / "deadly.py").write_text(DEADLY)
    return str(tmp_path / "deadly.py")


@pytest.fixture(params=["new", "forked"])
def server(request: pytest.FixtureRequest) -> ForkServer | None:
    """What forks the processes of a test; None where each is started anew."""
    return request.getfixturevalue("fork_server") if request.param == "forked" else None


def job(kind: str, model: str, spec: str = "full", lean: bool = False) -> dict:
    workload = Workload(model, batch_size=2, image_size=16)
    more = {"budget_seconds": None, "spent_seconds": 0.0}
    return {**job_for(kind, workload, [Variant(spec, lean)], (), 1), **more}


# What differs between a new process and a forked one: who tells how it ended, its pipes, its stdin.
ENDS = {
    "kill": ("oom", "killed .SIGKILL., as the system does when memory runs out"),
    "leave": ("error", "ended with code 3: last words"),
    "child": ("oom", "killed .SIGKILL."),
    "closes": ("error", "was ended by SIGTERM"),
    "asks": ("error", "EOFError"),
}
# What the process tells itself, or what follows from the code with which it ended.
ALIKE = {
    "memory": ("oom", "can't allocate memory"),
    # What the model printed before is there if its buffer was written out.
    "succeed": ("error", "ended with code 0 before its work was done: (it said|models may)"),
    "script": ("error", "the code of the model or of a plugin left with sys.exit.None."),
    "interrupt": ("error", "KeyboardInterrupt: from the model"),
}


@pytest.mark.parametrize("how", sampled(ENDS, every=3))
def test_a_worker_that_dies_says_why(deadly: str, how: str, server: ForkServer | None) -> None:
    _dies_and_says_why(deadly, how, server, *ENDS[how])


@pytest.mark.parametrize("how", ALIKE)
def test_a_forked_worker_that_dies_says_why(deadly: str, how: str, fork_server: ForkServer) -> None:
    _dies_and_says_why(deadly, how, fork_server, *ALIKE[how])


def _dies_and_says_why(
    deadly: str, how: str, server: ForkServer | None, status: str, reason: str
) -> None:
    with Workers(server) as workers:
        events = list(workers.events(job("memory", f"{deadly}:{how}")))
    assert events[-1]["event"] in ("broken", "failed")
    assert events[-1]["status"] == status
    assert re.search(reason, events[-1]["error"])
    if events[-1]["event"] == "broken" and how != "interrupt":  # of that, the process tells itself
        assert f"the process that measures {deadly}:{how} " in events[-1]["error"]


def test_a_worker_that_dies_within_an_event_is_no_error_of_its_own(
    deadly: str, tmp_path: Path
) -> None:
    (tmp_path / "python").write_text(
        "#!/bin/sh\necho '{\"event\": 1}'\nprintf '{\"ev'\nkill -40 $$"
    )
    (tmp_path / "python").chmod(0o755)
    with pytest.MonkeyPatch.context() as patch, Workers() as workers:
        patch.setattr(sys, "executable", str(tmp_path / "python"))
        events = list(workers.events(job("static", deadly)))
    assert [event["event"] for event in events] == [1, "broken"]
    assert "was ended by signal 40: it said nothing" in events[-1]["error"]


def test_a_thread_of_the_model_does_not_keep_a_worker_whose_job_is_done(
    deadly: str, server: ForkServer | None
) -> None:
    with Workers(server) as workers:
        (event,) = workers.events(job("memory", f"{deadly}:thread"))
    assert event["event"] == "memory"


def test_prints_of_a_model_are_no_events(deadly: str, server: ForkServer | None) -> None:
    with Workers(server) as workers:
        events = list(workers.events(job("static", f"{deadly}:fine")))
    assert [e["event"] for e in events] == ["environment", "workload", "static"], events


@pytest.mark.parametrize("kind", ["static", "memory"])
def test_a_lean_job_keeps_less_than_a_stock_one(kind: str, fork_server: ForkServer) -> None:
    saved = []
    with Workers(fork_server) as workers:
        for lean in (False, True):
            events = list(workers.events(job(kind, "timm:test_resnet", "batch-norm", lean)))
            assert events[-1]["label"] == ("batch-norm [lean]" if lean else "batch-norm")
            saved.append(events[-1]["memory"]["saved_activations_bytes"])
    assert saved[1] < saved[0]


def test_leaving_ends_what_still_runs(deadly: str, server: ForkServer | None) -> None:
    with Workers(server) as workers:
        events = workers.events(job("timing", "timm:test_resnet"))
        next(events)
        (process,) = workers._living
    assert process.poll() is not None
    assert list(workers.events(job("memory", f"{deadly}:fine"))) == []


PARENT = """
import json, sys, threading
from freezekit.bench.forked import ForkServer
from freezekit.bench.processes import Workers, worker_environment
with ForkServer() as server, Workers(server) as workers:
    if sys.argv[1] == "forked":
        server.prepare("timm:test_resnet", worker_environment())
    def run(job):
        list(workers.events(json.loads(job)))
    for job in sys.argv[2:]:
        threading.Thread(target=run, args=(job,)).start()
    threading.Event().wait()
"""
WAYS_TO_LIVE_ON = ("waits", "holds_the_lock", "stops")


@pytest.mark.parametrize("made", sampled(["forked", "new"], every=2))
def test_workers_end_when_their_parent_is_killed(deadly: str, tmp_path: Path, made: str) -> None:
    told = {how: tmp_path / how for how in WAYS_TO_LIVE_ON}
    jobs = [json.dumps(job("memory", f"{deadly}:{how}")) for how in WAYS_TO_LIVE_ON]
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, made, *jobs],
        env={**os.environ, "TELLS": str(tmp_path)},
    )
    while not all(file.exists() and file.read_text() for file in told.values()):
        assert parent.poll() is None
        time.sleep(0.1)
    workers = {how: int(file.read_text()) for how, file in told.items()}
    assert [how for how, worker in workers.items() if _state(worker) == "Z"] == []
    while _state(workers["stops"]) != "T":
        time.sleep(0.1)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while left := [how for how, worker in workers.items() if _state(worker) != "Z"]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"
