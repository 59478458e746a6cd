"""The measuring processes: real ones, that die in every way."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from freezekit.bench.processes import Workers, job_for
from freezekit.results.records import Workload
from freezekit.results.variant import Variant

DEADLY = """
import os, signal, sys, torch
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
            if self.how == "memory":
                torch.empty(2**50)
        print("models may print")
        return self.fc(x.mean((2, 3)))

def kill(): return Deadly("kill")
def leave(): return Deadly("exit")
def memory(): return Deadly("memory")
def fine(): return Deadly("")
"""


@pytest.fixture
def deadly(tmp_path: Path) -> str:
    (tmp_path / "deadly.py").write_text(DEADLY)
    return str(tmp_path / "deadly.py")


def job(kind: str, model: str, spec: str = "full", lean: bool = False) -> dict:
    workload = Workload(model, batch_size=2, image_size=16)
    more = {"budget_seconds": None, "spent_seconds": 0.0}
    return {**job_for(kind, workload, [Variant(spec, lean)], (), 1), **more}


@pytest.mark.parametrize(
    ("how", "status", "reason"),
    [
        ("kill", "oom", "killed .SIGKILL., as the system does when memory runs out"),
        ("leave", "error", "ended with code 3: last words"),
        ("memory", "oom", "can't allocate memory"),
    ],
)
def test_a_worker_that_dies_says_why(deadly: str, how: str, status: str, reason: str) -> None:
    with Workers() as workers:
        events = list(workers.events(job("memory", f"{deadly}:{how}")))
    assert events[-1]["event"] in ("broken", "failed")
    assert events[-1]["status"] == status
    assert re.search(reason, events[-1]["error"])
    if events[-1]["event"] == "broken":
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


def test_prints_of_a_model_are_no_events(deadly: str) -> None:
    with Workers() as workers:
        events = list(workers.events(job("static", f"{deadly}:fine")))
    assert [e["event"] for e in events] == ["environment", "workload", "static"], events


@pytest.mark.parametrize("kind", ["static", "memory"])
def test_a_lean_job_keeps_less_than_a_stock_one(kind: str) -> None:
    saved = []
    with Workers() as workers:
        for lean in (False, True):
            events = list(workers.events(job(kind, "timm:test_resnet", "batch-norm", lean)))
            assert events[-1]["label"] == ("batch-norm [lean]" if lean else "batch-norm")
            saved.append(events[-1]["memory"]["saved_activations_bytes"])
    assert saved[1] < saved[0]


def test_leaving_ends_what_still_runs(deadly: str) -> None:
    with Workers() as workers:
        events = workers.events(job("timing", "timm:test_resnet"))
        next(events)
        (process,) = workers._living
    assert process.poll() is not None
    assert list(workers.events(job("memory", f"{deadly}:fine"))) == []


def test_a_worker_ends_when_its_parent_is_killed() -> None:
    script = (
        "import json, sys; from freezekit.bench.processes import Workers\n"
        "events = Workers().events(json.loads(sys.argv[1]))\n"
        "workers = next(events)\n"
        "import os; os.system(f'pgrep -P {os.getpid()} -f bench.worker'); sys.stdout.flush()\n"
        "import time; time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, json.dumps(job("timing", "timm:test_resnet"))],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{worker}").exists() and _state(worker) != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"
