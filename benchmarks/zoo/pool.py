"""A few worker processes that are made anew every so many jobs, and whose death costs one job."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parents[2]

Job = dict[str, Any]  # Any: JSON

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
JOBS_PER_WORKER = 60
"""Caches of shapes and of compiled code grow with each model; a fresh process takes some 6 s."""


def answers(
    task: str,
    jobs: Sequence[Job],
    *,
    workers: int = 2,
    limit: float = 300.0,
    python: str = sys.executable,
) -> Iterator[Job]:
    """Yield the answer to each job as it comes; a worker that dies or hangs answers "failed".

    Args:
        task: One of `worker.TASKS`.
        jobs: What the workers are given.
        workers: Processes, of one thread each.
        limit: Seconds for one job.
        python: The interpreter of the workers.
    """
    command = [python, "-m", "benchmarks.zoo.worker", task]
    waiting: queue.Queue[Job] = queue.Queue()
    for job in jobs:
        waiting.put(job)
    done: queue.Queue[Job | BaseException] = queue.Queue()
    stop = threading.Event()
    hands = [
        threading.Thread(target=_serve, args=(command, waiting, done, stop, limit), daemon=True)
        for _ in range(min(workers, len(jobs)))
    ]
    for hand in hands:
        hand.start()
    try:
        for _ in jobs:
            answer = done.get()
            if isinstance(answer, BaseException):
                raise answer
            yield answer
    finally:  # Ctrl-C too
        stop.set()
        for hand in hands:
            hand.join()


def _serve(
    command: list[str],
    waiting: queue.Queue[Job],
    done: queue.Queue[Job | BaseException],
    stop: threading.Event,
    limit: float,
) -> None:
    """Feed one worker after the other until nothing waits."""
    worker: _Worker | None = None
    try:
        while not stop.is_set():
            try:
                job = waiting.get_nowait()
            except queue.Empty:
                break
            worker = worker or _Worker(command)
            done.put(worker.ask(job, limit, stop))
            if worker.asked >= JOBS_PER_WORKER or not worker.alive:
                worker.end()
                worker = None
    except BaseException as error:  # noqa: BLE001  # handed to the thread that waits for answers
        done.put(error)
    finally:
        if worker is not None:
            worker.end()


class _Worker:
    def __init__(self, command: list[str]) -> None:
        self.asked = 0
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | ONE_THREAD,
            start_new_session=True,  # Ctrl-C is the parent's to handle
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, job: Job, limit: float, stop: threading.Event) -> Job:
        self.asked += 1
        assert self._process.stdin is not None
        try:
            print(json.dumps(job), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            return job | {"status": "failed", "reason": "the worker died before this model"}
        waited = 0.0
        while waited < limit and not stop.is_set():
            try:
                line = self._lines.get(timeout=0.5)
            except queue.Empty:
                waited += 0.5
                continue
            if line:
                return dict(json.loads(line))
            code = self._process.wait()
            return job | {"status": "failed", "reason": f"the worker died with code {code}"}
        self._process.kill()
        return job | {"status": "failed", "reason": f"no answer within {limit:.0f} s"}

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        with contextlib.suppress(BrokenPipeError):  # what it was never told
            self._process.stdin.close()  # type: ignore[union-attr]  # a pipe, as it was started

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._lines.put(line)
        self._lines.put("")
