"""Which task begins next on one machine; pure, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezekit.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.engines.records import Task


@dataclass(frozen=True)
class Room:
    """What a machine has for tasks.

    Attributes:
        at_once: Tasks that run at the same time.
        memory_bytes: Of the host; 0 where that is not known.
        devices: GPUs, as CUDA_VISIBLE_DEVICES names them.
    """

    at_once: int
    memory_bytes: int = 0
    devices: tuple[str, ...] = ()


def next_task(waiting: Sequence[Task], running: Sequence[Task], room: Room) -> Task | None:
    """Return the first task for which there is room now; None where there is none.

    A task that needs more memory than there is runs alone: it may fit all the same, as predictions
    are high rather than low. The memory of tasks on a GPU is that of the GPU, which they have for
    themselves.

    Example:
        >>> from freezekit.engines.records import Task
        >>> small, large = Task("small", "m:f", 0, 2), Task("large", "m:f", 0, 9)
        >>> room = Room(at_once=2, memory_bytes=5)
        >>> next_task([large, small], [small], room).name
        'small'
        >>> next_task([large], [small], room), next_task([large], [], room).name
        (None, 'large')
    """
    if len(running) >= room.at_once:
        return None
    left = room.memory_bytes - sum(map(host_bytes, running))
    devices = len(room.devices) - sum(task.gpus for task in running)

    def fits(task: Task) -> bool:
        has_memory = not room.memory_bytes or not host_bytes(task) or host_bytes(task) <= left
        return (has_memory or not running) and task.gpus <= devices

    return next(filter(fits, waiting), None)


def host_bytes(task: Task) -> int:
    """Return the memory of the host that a task needs, as far as it is predicted."""
    return 0 if task.gpus else task.memory_bytes


def check(tasks: Sequence[Task], devices: Sequence[str] | None = None) -> None:
    """Refuse tasks that no engine can tell apart, or that need more than there is.

    Args:
        tasks: Those of a run.
        devices: GPUs that there are; None where that is not known.

    Raises:
        EngineError: Two have one name, or one needs more GPUs.

    Example:
        >>> from freezekit.engines.records import Task
        >>> check([Task("one", "m:f", 0, gpus=2)], devices=["0"])
        Traceback (most recent call last):
        ...
        freezekit.errors.EngineError: task 'one' needs 2 GPUs, and there is 1 here; ...
    """
    names: set[str] = set()
    for task in tasks:
        if task.name in names:
            raise EngineError(f"two tasks have the name {task.name!r}; give each its own")
        names.add(task.name)
        if devices is not None and task.gpus > len(devices):
            are = "is" if len(devices) == 1 else "are"
            raise EngineError(
                f"task {task.name!r} needs {task.gpus} GPUs, and there {are} {len(devices)} here; "
                "choose another device or engine, or look at CUDA_VISIBLE_DEVICES"
            )
