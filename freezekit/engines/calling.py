"""The call of a task's function, in the process of the task; all engines make it; no torch."""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from freezekit.errors import EngineError
from freezekit.model.own_folder import claim_for_current_folder, look_in_current_folder
from freezekit.plugins.registry import BLOCK_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from freezekit.engines.records import JSON, Task

    Report = Callable[[JSON], None]


def call_of(task: Task, block: Sequence[str] = (), threads: int | None = None) -> JSON:
    """Return what the process of a task has to know, as JSON data.

    Args:
        task: What runs.
        block: Plugins that are not loaded.
        threads: For torch; the function may choose others. None for torch's own choice.

    Example:
        >>> from freezekit.engines.records import Task
        >>> call_of(Task("first", "math:prod", [2, 3]), threads=1)["argument"]
        [2, 3]
    """
    return {
        "task": task.name,
        "function": task.function,
        "argument": task.argument,
        "folder": str(Path.cwd()),
        "block": list(block),
        "threads": threads,
    }


def call(made: JSON, report: Report) -> JSON:
    """Call the function, and return what came of it: "status", "answer" and "error", as `Outcome`.

    Relative paths and modules of one's own mean the same as where the task was made, on a host that
    has that folder. Whatever the function raises is told, and not raised.

    Args:
        made: As `call_of` returns it.
        report: Takes the messages of the function, which are JSON data.
    """
    with suppress(OSError):  # it is not on this host
        os.chdir(made["folder"])
    look_in_current_folder()
    _block(made["block"])
    if made["threads"]:
        _limit_threads(made["threads"])
    try:
        answer = _function(made)(made["argument"], report)
    except BaseException as error:  # noqa: BLE001  # all is told to the one who made the task
        from freezekit.bench.worker import failure

        found = failure(error)
        return {"status": found["status"], "answer": None, "error": found["error"]}
    return {"status": "ok", "answer": answer, "error": None}


def call_quietly(made: JSON) -> JSON:
    """As `call`, on an engine that delivers no messages."""

    def drop(message: JSON) -> None:
        pass

    return call(made, drop)


def _function(made: JSON) -> Callable[[JSON, Report], JSON]:
    """Return the function of a task.

    Raises:
        EngineError: There is none of that name on this host.
    """
    module, _, name = made["function"].partition(":")
    claim_for_current_folder(module.partition(".")[0])
    try:
        found: Callable[[JSON, Report], JSON] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise EngineError(
            f"task {made['task']!r} cannot run: no function {made['function']!r} is found on this "
            f"host ({error}); install there what is installed here"
        ) from error
    return found


def _block(names: Sequence[str]) -> None:
    """Block plugins in this process, beside those that its environment blocks."""
    if names:
        before = os.environ.get(BLOCK_VARIABLE, "")
        os.environ[BLOCK_VARIABLE] = ",".join([*names, before])


def _limit_threads(threads: int) -> None:
    os.environ["OMP_NUM_THREADS"] = str(threads)  # torch reads it on import
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
