"""What an engine runs, and what it answers; no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

JSON = Any  # Any: JSON data


@dataclass(frozen=True)
class Task:
    """A piece of work that runs in a process of its own, on one host.

    It may run twice, where a host dies in the middle: so it goes on from what it has stored, and
    its answer does not depend on where it ran.

    Attributes:
        name: Different for each task of a run.
        function: "module:function"; it takes `argument` and returns JSON data.
        argument: JSON data.
        memory_bytes: What it needs, as predicted; 0 where that is not known.
        gpus: Devices that it needs.
    """

    name: str
    function: str
    argument: JSON
    memory_bytes: int = 0
    gpus: int = 0


@dataclass(frozen=True)
class Outcome:
    """What became of a task, or a message on its way.

    Attributes:
        task: Its name.
        status: "message": it goes on, and `answer` is what it reported; clusters deliver none.
            "ok": it ended, and `answer` is what the function returned. "oom" and "error": it ended
            with `error`.
        answer: JSON data.
        error: A line that says why.
        attempts: How often it was begun.
    """

    task: str
    status: Literal["message", "ok", "oom", "error"]
    answer: JSON = None
    error: str | None = None
    attempts: int = 1


class Engine(Protocol):
    """Runs tasks. A sweep starts one, and closes it at its end."""

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Run all tasks, and yield outcomes as they come; each task has one that is no message.

        A task that fails does not end the others. Closing the iterator ends what runs.

        Raises:
            EngineError: The engine cannot be reached.
        """
        ...

    def close(self) -> None:
        """End the engine, and all that it has started."""
        ...
