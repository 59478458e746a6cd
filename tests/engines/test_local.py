"""Tasks in real processes of this machine: how many at once, and every way to end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from freezekit.engines.local import LocalEngine, visible_devices
from freezekit.engines.placing import Room, next_task
from freezekit.engines.records import Outcome, Task
from freezekit.errors import EngineError
from tests.fork_server import SERVER

if TYPE_CHECKING:
    from collections.abc import Callable


def task(name: str, function: str, argument: Any = None, **more: Any) -> Task:
    return Task(name, f"tests.engines.functions:{function}", argument, **more)


def run(*tasks: Task, **options: Any) -> list[Outcome]:
    engine = LocalEngine(**{"at_once": 2, "threads": 1, "server": SERVER, **options})
    try:
        return list(engine.run(tasks))
    finally:
        engine.close()


@pytest.fixture(autouse=True, scope="module")
def _prepared() -> None:
    from freezekit.bench.processes import worker_environment

    SERVER.prepare(None, worker_environment())


def test_each_task_has_one_outcome_after_its_messages() -> None:
    found = run(task("a", "add", [1, 2]), task("b", "reports", 2), task("c", "add", [5]))
    assert {one.task: one.answer for one in found if one.status == "ok"} == {
        "a": 3,
        "b": "done",
        "c": 5,
    }
    of_b = [(one.status, one.answer) for one in found if one.task == "b"]
    assert of_b == [("message", {"epoch": 0}), ("message", {"epoch": 1}), ("ok", "done")]


FAILURES = {
    "raise": ("error", "ValueError: no such thing"),
    "kill": ("oom", r"the process of t was killed \(SIGKILL\), as the system does when memory"),
    "exit": ("error", "the process of t ended with code 3: last words"),
    "leave": ("error", r"left with sys.exit\(1\)"),
    "memory": ("oom", "can't allocate memory"),
    "no data": ("error", "what 'tests.engines.functions:fails' returned is no JSON data: .*object"),
    "no message": ("error", "TypeError: Object of type object is not JSON serializable"),
}


@pytest.mark.parametrize("how", FAILURES)
def test_a_task_that_fails_says_why_and_the_others_go_on(how: str) -> None:
    found = {one.task: one for one in run(task("t", "fails", how), task("other", "add", [1]))}
    status, text = FAILURES[how]
    assert found["t"].status == status
    assert re.search(text, found["t"].error or "")
    assert found["other"].answer == 1


@pytest.mark.parametrize("function", ["no.such.module:f", "tests.engines.functions:absent"])
def test_a_function_that_is_not_there_is_an_error_of_its_task(function: str) -> None:
    (found,) = run(Task("t", function, None))
    assert found.status == "error"
    assert f"task 't' cannot run: no function '{function}' is found on this host" in str(
        found.error
    )


def test_a_process_knows_what_the_one_of_the_engine_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = run(task("a", "facts"), task("b", "facts"), at_once=1, block=["one", "two"])
    assert first.answer["pid"] != second.answer["pid"]
    assert first.answer["folder"] == str(Path.cwd())
    assert first.answer["blocked"].startswith("one,two,")
    assert first.answer["allocator"] == str(64 * 2**20)
    assert first.answer["devices"] == os.environ.get("CUDA_VISIBLE_DEVICES")


def test_the_threads_are_those_of_the_engine() -> None:
    (found,) = run(task("a", "threads"), threads=2)
    assert found.answer == 2


@pytest.mark.parametrize(
    ("needs", "expected"),
    [((40, 40, 40), 2), ((60, 60, 60), 1), ((10, 200, 10), 2), ((0, 0, 0), 3)],
)
def test_as_many_run_at_once_as_memory_allows(
    needs: tuple[int, ...], expected: int, tmp_path: Path
) -> None:
    tasks = [
        task(f"{n}", "meets", [str(tmp_path), expected], memory_bytes=each)
        for n, each in enumerate(needs)
    ]
    found = run(*tasks, at_once=3, memory_bytes=100)
    assert max(one.answer for one in found) == expected


def test_a_task_that_needs_more_than_all_runs_alone() -> None:
    room = Room(at_once=4, memory_bytes=100)
    huge, small = (task(name, "add", memory_bytes=n) for name, n in (("huge", 500), ("small", 1)))
    assert next_task([huge, small], [], room) == huge
    assert next_task([small], [huge], room) is None
    assert next_task([huge], [small], room) is None


def test_each_device_is_given_to_one_task_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a, GPU-b")
    assert visible_devices() == ("GPU-a", "GPU-b")
    found = run(task("a", "facts", gpus=1), task("b", "facts", gpus=1), task("c", "facts"))
    given = {one.task: one.answer["devices"] for one in found}
    assert sorted([given["a"], given["b"]]) == ["GPU-a", "GPU-b"]
    assert given["c"] == ""


def test_more_devices_than_there_are_is_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(EngineError, match="task 't' needs 1 GPUs, and there are 0 here"):
        run(task("t", "add", [1], gpus=1))


def test_two_tasks_of_one_name_are_refused() -> None:
    with pytest.raises(EngineError, match="two tasks have the name 't'; give each its own"):
        run(task("t", "add", [1]), task("t", "add", [2]))


def ends(pid: int) -> bool:
    """Tell whether a process is gone within some seconds."""
    status = Path(f"/proc/{pid}/stat")
    for _ in range(200):
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


def test_closing_the_iterator_ends_what_runs() -> None:
    engine = LocalEngine(at_once=2, threads=1, server=SERVER)
    outcomes = engine.run([task("a", "waits"), task("b", "waits"), task("c", "add", [1])])
    pids = [next(outcomes).answer for _ in range(2)]
    outcomes.close()  # type: ignore[attr-defined]  # a generator
    assert all(map(ends, pids))


PARENT = """
import sys
from freezekit.engines.local import LocalEngine
from freezekit.engines.records import Task
engine = LocalEngine(at_once=1, threads=1, is_forked=False)
try:
    for outcome in engine.run([Task("a", "tests.engines.functions:waits", None)]):
        print(outcome.answer, flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_process_ends_with_the_engine(how: signal.Signals) -> None:
    engine = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert engine.stdout is not None
    with engine:
        pid = int(engine.stdout.readline())
        engine.send_signal(how)
        rest = engine.stdout.read()
    assert ends(pid)
    assert rest == ("interrupted\n" if how == signal.SIGINT else "")


def test_the_default_is_a_process_for_each_core(monkeypatch: pytest.MonkeyPatch) -> None:
    from freezekit.engines import local

    monkeypatch.setattr(local, "cores", lambda: 6)
    chosen: Callable[..., tuple[int, int | None]] = lambda **options: (  # noqa: E731
        (engine := LocalEngine(**options)).at_once,
        engine.threads,
    )
    assert chosen() == (6, 1)
    assert chosen(threads=2) == (3, 2)
    assert chosen(at_once=2) == (2, 3)
    assert chosen(at_once=8) == (8, 1)
    assert chosen(at_once=1) == (1, None)
