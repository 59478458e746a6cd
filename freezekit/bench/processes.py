"""Starting, reading and ending the measuring processes; no torch here."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from typing import TYPE_CHECKING, Any, Self

import msgspec

from freezekit.bench.forked import Forked, ForkServer
from freezekit.bench.process_output import lines_until_end

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from freezekit.results.records import Workload
    from freezekit.results.variant import Variant

Event = dict[str, Any]  # Any: JSON

# glibc adapts its allocator to what was freed before, so that earlier steps change the ratios. With
# fixed thresholds it does not. 32 MiB is the highest it accepts. Other allocators ignore all three.
PINNED_ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(64 * 2**20),
}

END_SECONDS = 3.0
"""How long a process whose job is done may take to end. Then it is killed: it may have threads that
never end."""

_QUIET_PROFILER = {"KINETO_LOG_LEVEL": "5"}  # its messages would hide the last line of a worker


def job_for(
    kind: str,
    workload: Workload,
    variants: Sequence[Variant],
    block: Sequence[str],
    threads: int | None,
    worker: str = "freezekit.bench.worker",
) -> Event:
    """Return the job of a measuring process; some kinds need more or other entries.

    "schedules" are texts of which the phases are asked for. "phases" holds the plans of variants
    that are phases, by their specs, as `PhasePlan.as_data` makes them.

    Args:
        kind: What to do: a name that the worker knows.
        workload: The training step.
        variants: What to measure.
        block: Plugins that are not loaded.
        threads: For torch; None for its own choice.
        worker: The module whose `main` does the job.

    Example:
        >>> from freezekit.results.records import Workload
        >>> job_for("static", Workload("timm:resnet18"), [], (), 1)["workload"]["model"]
        'timm:resnet18'
    """
    return {
        "worker": worker,
        "process": f"the process that measures {workload.model}",
        "kind": kind,
        "workload": msgspec.to_builtins(workload),
        "variants": [msgspec.to_builtins(variant) for variant in variants],
        "block": list(block),
        "threads": threads,
        "schedules": [],
        "phases": {},
    }


class Workers:
    """The processes of one run; leaving the context ends those that still run.

    Each is the leader of its own session, so that Ctrl-C reaches the parent only. The system tells
    the parent that a process has ended. The end of its pipe would not tell: children of the process
    may hold it. A process ends with its parent, too: `freezekit.bench.lifeline` says how. So the
    thread that takes the first event of a job has to live until the last one.
    """

    def __init__(self, server: ForkServer | None = None) -> None:
        """Start no process yet.

        Args:
            server: Forks the processes, where it was started; None to start each anew.
        """
        self._server = server or ForkServer()
        self._living: set[subprocess.Popen[bytes] | Forked] = set()
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._closed = True
            living = list(self._living)
        for process in living:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def events(self, job: Mapping[str, Any]) -> Iterator[Event]:  # Any: JSON
        """Start a worker on a job and yield its events as they come.

        The job's "worker" is the module whose `main` does it, and "process" is how messages call
        the process; what else it holds is the worker's.

        A worker says when its job is done. One that ends before, with whatever code, yields
        {"event": "broken", "status", "error"} last: "oom" where the system killed it, else "error"
        with the last line that it wrote to stderr.
        """
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr:
            process = self._start(job["worker"], stderr.fileno())
            if process is None:
                return
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                with contextlib.suppress(BrokenPipeError):  # its exit status says why
                    process.stdin.write(json.dumps(job).encode() + b"\n")
                    process.stdin.flush()
                for line in lines_until_end(process):
                    event = json.loads(line)
                    if event["event"] == "end":
                        with contextlib.suppress(subprocess.TimeoutExpired):
                            process.wait(END_SECONDS)
                        return
                    yield event
                code = process.wait()
                stderr.seek(0)
                yield {"event": "broken", **exit_reason(code, stderr.read(), job["process"])}
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # what it has started, too
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
                process.stdout.close()
                process.wait()
                with self._lock:
                    self._living.discard(process)

    def events_of_all(
        self,
        jobs: Mapping[str, Mapping[str, Any]],  # Any: JSON
        at_once: int,
    ) -> Iterator[Event]:
        """Run several jobs, `at_once` at a time, and yield their events as they come.

        Args:
            jobs: By label; each event gets the label of its job.
            at_once: Processes that run at the same time.
        """
        waiting: queue.SimpleQueue[tuple[str, Mapping[str, Any]]] = queue.SimpleQueue()
        found: queue.SimpleQueue[Event | None] = queue.SimpleQueue()  # None: a job has ended
        for labelled in jobs.items():
            waiting.put(labelled)

        def work() -> None:
            with contextlib.suppress(queue.Empty):
                while True:
                    label, job = waiting.get_nowait()
                    try:
                        for event in self.events(job):
                            found.put({**event, "label": label})
                    finally:
                        found.put(None)

        for _ in range(at_once):
            threading.Thread(target=work, daemon=True).start()
        for _ in jobs:
            while (event := found.get()) is not None:
                yield event

    def _start(self, worker: str, stderr: int) -> subprocess.Popen[bytes] | Forked | None:
        with self._lock:
            if self._closed:
                return None
            process = self._server.fork(worker, stderr) or subprocess.Popen(
                [sys.executable, "-P", "-m", "freezekit.bench.lifeline", worker],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=worker_environment(),
                start_new_session=True,
            )
            self._living.add(process)
            return process


def worker_environment() -> dict[str, str]:
    """Return the environment variables of the measuring processes."""
    return {**PINNED_ALLOCATOR, **_QUIET_PROFILER, **os.environ}


def exit_reason(code: int, stderr: str, process: str) -> Event:
    r"""Return why a process ended too early, as a row's status and reason.

    Example:
        >>> exit_reason(-9, "", "the process that measures timm:resnet18")["error"]
        'the process that measures timm:resnet18 was killed (SIGKILL), as the system does when
        memory runs out'
        >>> exit_reason(1, "OSError: no space", "the process")["error"]
        'the process ended with code 1: OSError: no space'
        >>> exit_reason(0, "", "the process")["error"]
        'the process ended with code 0 before its work was done: it said nothing'
    """
    last = (stderr.strip().splitlines() or ["it said nothing"])[-1]
    if code == -signal.SIGKILL:
        what = "was killed (SIGKILL), as the system does when memory runs out"
        return {"status": "oom", "error": f"{process} {what}", "model": False}
    how = f"was ended by {_signal(-code)}" if code < 0 else f"ended with code {code}"
    if code == 0:
        how += " before its work was done"
    return {"status": "error", "error": f"{process} {how}: {last}", "model": False}


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals but for two have no name
        return f"signal {number}"
