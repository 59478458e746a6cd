"""Tasks on Ray: many hosts, placement by predicted memory, and another host where one dies.

These are tasks of Ray's core, and not trials of Ray Tune. Tune decides which trials run, stop and
go on, and keeps their checkpoints: its schedulers act when one trial reports, in the order in which
reports arrive. Here freezekit decides, between two calls of `run`, from records alone, so that a
sweep has the same result on every engine; and a training keeps its own checkpoints. What is left is
to place a process where cores, memory and GPUs are free, to tell that it was lost, and to begin it
again elsewhere. That is what a task of Ray is.

Ray could begin a lost task again by itself (`max_retries`). Then it would not tell how often, and
would repeat one that ran out of memory, by default without end. So it is asked not to, and a lost
task is submitted again here: where it runs is Ray's choice each time.
"""

from __future__ import annotations

import logging
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from freezekit.bench.environment import cores
from freezekit.bench.processes import PINNED_ALLOCATOR
from freezekit.engines.calling import call_of, call_quietly
from freezekit.engines.placing import check, host_bytes
from freezekit.engines.records import Outcome, Task
from freezekit.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CONNECT_SECONDS = 10.0
OBJECT_STORE_BYTES = 100 * 2**20  # answers are small, and go without it
ATTEMPTS = 4
LOST = ("WorkerCrashedError", "NodeDiedError", "ObjectLostError", "OwnerDiedError")
"""The errors of Ray that say nothing of the task: its process or its host is gone."""


@dataclass(frozen=True)
class Host:
    """What the largest hosts have, each by itself."""

    cores: int
    memory_bytes: int


class RayEngine:
    """Runs each task in a process of its own on a Ray cluster, or on a Ray of this machine.

    A task asks for its cores, its GPUs and its predicted memory; where no host has as much memory,
    for all memory of the largest one. A task whose process or host is lost begins again, where Ray
    chooses, and goes on from what it has stored. One that Ray ends because the host runs out of
    memory does not. Messages of tasks are not delivered.

    All hosts have freezekit and the plugins installed. Files are found at the same paths.
    """

    def __init__(
        self,
        address: str | None = None,
        threads: int | None = None,
        block: Sequence[str] = (),
        attempts: int = ATTEMPTS,
        *,
        one_per_host: bool = False,
    ) -> None:
        """Connect to a cluster, or start Ray on this machine.

        Args:
            address: Of a cluster: "HOST:PORT", "ray://HOST:PORT" or "auto"; None to start Ray here.
            threads: Cores of each task, and threads of torch; None for 1, or with `one_per_host`
                for torch's own choice.
            block: Plugins that are not loaded.
            attempts: How often a task is begun, at most.
            one_per_host: Give each task all cores of a host, of those that have the most.

        Raises:
            EngineError: Ray is not installed, or no cluster answers at the address.
        """
        self._ray = _imported()
        self._threads = threads if threads or one_per_host else 1
        self._block = tuple(block)
        self._attempts = attempts
        self._one_per_host = one_per_host
        self._is_mine = not self._ray.is_initialized()
        if self._is_mine:
            self._connect(address)
        # One call in each process: a task finds no state of an earlier one.
        self._call = self._ray.remote(max_calls=1, max_retries=0)(call_quietly)

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Run all tasks, as `Engine.run`.

        Raises:
            EngineError: No host has the cores or GPUs that a task needs, or Ray itself has ended.
        """
        errors = self._ray.exceptions
        check(tasks)
        largest = self._largest(tasks)
        running = {self._begin(task, largest): (task, 1) for task in tasks}
        try:
            while running:
                (reference,), _ = self._ray.wait([*running], num_returns=1)
                task, attempt = running.pop(reference)
                try:
                    found = self._ray.get(reference)
                except tuple(getattr(errors, name) for name in LOST) as error:
                    if attempt < self._attempts:
                        running[self._begin(task, largest)] = task, attempt + 1
                        continue
                    said = f"lost {attempt} times with its process or host: {_line(error)}"
                    yield Outcome(task.name, "error", error=said, attempts=attempt)
                except errors.OutOfMemoryError as error:
                    yield Outcome(task.name, "oom", error=_line(error), attempts=attempt)
                except errors.RayError as error:
                    yield Outcome(task.name, "error", error=_line(error), attempts=attempt)
                else:
                    yield Outcome(task.name, **found, attempts=attempt)
        finally:
            for reference in running:
                self._ray.cancel(reference, force=True)

    def close(self) -> None:
        """Leave the cluster, or end the Ray that was started here."""
        if self._is_mine:
            self._ray.shutdown()

    def _begin(self, task: Task, largest: Host) -> Any:  # Any: Ray's reference to an answer
        """Submit a task; it waits until a host has room for it."""
        memory = host_bytes(task)
        return self._call.options(
            name=task.name,
            num_cpus=largest.cores if self._one_per_host else self._threads or 1,
            num_gpus=task.gpus,
            memory=min(memory, largest.memory_bytes) or None,
            runtime_env={"env_vars": _environment()},
        ).remote(call_of(task, self._block, self._threads))

    def _largest(self, tasks: Sequence[Task]) -> Host:
        """Return the most that hosts have now.

        Raises:
            EngineError: That is less than a task needs, and it would wait for ever.
        """
        hosts = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        cpus, gpus, memory = (
            max(int(host.get(name, 0)) for host in hosts) for name in ("CPU", "GPU", "memory")
        )
        needs = [(self._threads or 1, cpus, "cores"), *((t.gpus, gpus, "GPUs") for t in tasks)]
        for needed, there, what in needs:
            if needed > there:
                raise EngineError(
                    f"a task needs {needed} {what}, and no host of the Ray cluster has more than "
                    f"{there}; choose other --threads, another device or another cluster"
                )
        return Host(cpus, memory)

    def _connect(self, address: str | None) -> None:
        here: dict[str, Any] = {}  # Any: options of many types
        if address is None:
            here = {"num_cpus": cores(), "object_store_memory": OBJECT_STORE_BYTES}
            here |= {"include_dashboard": False}
        else:
            _check_reachable(address)
        try:
            self._ray.init(
                address=address or "local",
                log_to_driver=False,
                logging_level=logging.ERROR,
                **here,
            )
        except Exception as error:  # Ray raises errors of many kinds
            raise EngineError(
                f"Ray cannot be {'reached at ' + repr(address) if address else 'started here'}: "
                f"{_line(error)}"
            ) from error


def _imported() -> Any:  # Any: Ray ships types of its own, which are not complete
    """Return Ray.

    Raises:
        EngineError: It is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers of each start
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns of a change
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise EngineError(
            f"the engine 'ray' needs Ray, which cannot be imported ({error}): "
            "pip install 'freezekit[ray]'"
        ) from None
    return ray


def _environment() -> dict[str, str]:
    """Return the variables of each process, so that figures compare with those of this machine."""
    handed_on = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    return {**PINNED_ALLOCATOR, **{name: value for name, value in handed_on.items() if value}}


def _check_reachable(address: str) -> None:
    """Raise where nothing listens at an address: Ray itself would wait for minutes.

    Raises:
        EngineError: It has no port, or nothing listens there.
    """
    if address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise EngineError(
            f"the address {address!r} of a Ray cluster has no port; expected 'HOST:PORT', such as "
            "'10.0.0.1:6379', 'ray://HOST:PORT' or 'auto'"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise EngineError(
            f"no Ray cluster can be reached at {address!r} ({error}); look whether `ray status "
            f"--address {address}` answers, or leave out --address to run on this machine"
        ) from None


def _line(error: Exception) -> str:
    """Return what an error of Ray says, on one line; a trace ends with what was raised."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    is_trace = any(line.startswith("Traceback") or line.startswith("ray::") for line in lines)
    return (lines or [type(error).__name__])[-1 if is_trace else 0]
