"""Tasks in processes of this machine, as many at once as its cores, memory and GPUs allow."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from queue import SimpleQueue
from typing import TYPE_CHECKING

from freezekit.bench.environment import available_bytes, cores
from freezekit.bench.forked import ForkServer
from freezekit.bench.processes import Workers, worker_environment
from freezekit.engines.calling import call_of
from freezekit.engines.placing import Room, check, next_task
from freezekit.engines.records import Outcome, Task

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WORKER = "freezekit.engines.task_process"


class LocalEngine:
    """Runs each task in a process of its own, which ends with this one.

    A task whose process is killed is not begun again: on one machine it would run out of memory a
    second time. The one who made it may run it again; it goes on from what it has stored.

    Attributes:
        at_once: Tasks that run at the same time, at most.
        threads: Of torch in each process; None for its own choice.

    Example:
        >>> engine = LocalEngine(at_once=2, is_forked=False)
        >>> task = Task("difference", "freezekit.engines.example:spread", [3, 9, 5])
        >>> [outcome.answer for outcome in engine.run([task])]
        [6]
        >>> engine.close()
    """

    def __init__(
        self,
        at_once: int | None = None,
        memory_bytes: int | None = None,
        threads: int | None = None,
        block: Sequence[str] = (),
        server: ForkServer | None = None,
        *,
        is_forked: bool = True,
    ) -> None:
        """Start nothing yet; the first run does.

        Args:
            at_once: Tasks that run at the same time, at most; None for as many as there are cores
                for their threads.
            memory_bytes: For all tasks that run; None for what is free when a run begins.
            threads: Of torch in each process; None for the cores divided by `at_once`, or for
                torch's own choice where one runs at a time.
            block: Plugins that are not loaded.
            server: Forks the processes; None for a server of this engine.
            is_forked: Whether processes are forked from one that has imported torch, torchvision
                and timm; else each is started anew, as those that get a GPU are.
        """
        self.at_once: int = at_once or max(1, cores() // (threads or 1))
        shared = max(1, cores() // self.at_once) if self.at_once > 1 else None
        self.threads: int | None = threads or shared
        self._memory_bytes = memory_bytes
        self._block = tuple(block)
        self._server = server
        self._is_forked = is_forked
        self._stack = ExitStack()

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Run all tasks, as `Engine.run`; the calling thread has to live until `close`.

        Raises:
            EngineError: A task needs more GPUs than there are, or has the name of another one.
        """
        devices = visible_devices() if any(task.gpus for task in tasks) else ()
        check(tasks, devices)
        room = Room(self.at_once, self._memory_bytes or available_bytes(), devices)
        found: SimpleQueue[Outcome] = SimpleQueue()
        waiting = list(tasks)
        running: dict[str, Task] = {}
        free = list(devices)
        held: dict[str, list[str]] = {}  # devices of each running task
        with Workers(self._forking() if self._is_forked and not devices else None) as workers:
            while waiting or running:
                while (task := next_task(waiting, [*running.values()], room)) is not None:
                    waiting.remove(task)
                    running[task.name] = task
                    held[task.name], free = free[: task.gpus], free[task.gpus :]
                    job = self._job(task, held[task.name] if devices else None)
                    work = (workers, task.name, job, found)
                    threading.Thread(target=_follow, args=work, daemon=True).start()
                outcome = found.get()
                if outcome.status != "message":
                    del running[outcome.task]
                    free += held.pop(outcome.task)
                yield outcome

    def close(self) -> None:
        """End the process that forks the others."""
        self._stack.close()

    def _forking(self) -> ForkServer:
        if self._server is None:
            self._server = self._stack.enter_context(ForkServer())
            self._server.prepare(None, worker_environment())
        return self._server

    def _job(self, task: Task, devices: Sequence[str] | None) -> dict[str, object]:
        return {
            "worker": WORKER,
            "process": f"the process of {task.name}",
            "call": call_of(task, self._block, self.threads),
            "devices": devices,
        }


def _follow(
    workers: Workers, name: str, job: dict[str, object], found: SimpleQueue[Outcome]
) -> None:
    """Run a task to its end; this thread lives as long as its process."""
    last = Outcome(name, "error", error="the engine was closed")
    try:
        for event in workers.events(job):
            if event["event"] == "message":
                found.put(Outcome(name, "message", event["answer"]))
            else:
                last = Outcome(name, event["status"], event.get("answer"), event["error"])
    except OSError as error:  # no process could be started
        last = Outcome(name, "error", error=f"no process can be started: {error}")
    finally:
        found.put(last)


def visible_devices() -> tuple[str, ...]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return tuple(filter(None, map(str.strip, given.split(","))))
    import torch

    return tuple(map(str, range(torch.cuda.device_count())))
