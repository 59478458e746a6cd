"""Tasks on Slurm, through submitit: one array job for a run, one task for each of its elements."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Literal

from freezekit.bench.processes import PINNED_ALLOCATOR
from freezekit.engines.calling import call_of, call_quietly
from freezekit.engines.placing import check, host_bytes
from freezekit.engines.records import JSON, Outcome, Task
from freezekit.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

MOST_OF_ARRAY = 1000
"""Elements of an array; Slurm refuses more than MaxArraySize, which is 1001 by default."""

PROCESS_BYTES = 2**30
"""What a process with torch takes itself. Slurm ends a job that takes more than it asked for."""

POLL_SECONDS = 5.0
MOST_LOOKS_A_SECOND = 200
"""Each look asks the shared folder for one answer."""

TIMEOUTS = 3
"""How often a task goes on after its time was over."""


class SlurmEngine:
    """Runs each task as an element of an array job, with memory, cores and GPUs of its own.

    All elements ask for what the largest task needs. Slurm begins those anew whose host dies, and
    those that it preempts. One whose time is nearly over is queued again. Each goes on from what it
    has stored. One that is killed otherwise is not begun again. Messages of tasks are not
    delivered.

    All hosts have freezekit and the plugins installed. Files are found at the same paths.
    """

    def __init__(
        self,
        folder: str | Path,
        partition: str | None = None,
        minutes: int = 24 * 60,
        threads: int | None = None,
        block: Sequence[str] = (),
        poll_seconds: float = POLL_SECONDS,
        cluster: Literal["slurm", "local"] = "slurm",
        *,
        one_per_host: bool = False,
    ) -> None:
        """Submit nothing yet.

        Args:
            folder: For logs and answers; all hosts reach it.
            partition: Of the cluster; None for its default.
            minutes: A task has so long at a time.
            threads: Cores of each task, and threads of torch; None for 1, or with `one_per_host`
                for torch's own choice.
            block: Plugins that are not loaded.
            poll_seconds: Between two looks for answers, at least; more for thousands of tasks.
            cluster: "local" runs all tasks in processes of this machine, to try them.
            one_per_host: Give each task a host for itself.

        Raises:
            EngineError: submitit is not installed, or this machine knows no Slurm.
        """
        submitit = _imported()
        try:
            self._executor: Any = submitit.AutoExecutor(  # Any: its jobs are of several classes
                folder, cluster=cluster, **{f"{cluster}_max_num_timeout": TIMEOUTS}
            )
        except RuntimeError as error:
            raise EngineError(
                "the engine 'slurm' needs the commands of Slurm, such as srun and sbatch "
                f"({error}); run this on a host from which jobs are submitted"
            ) from None
        except OSError as error:
            raise EngineError(f"{str(folder)!r} cannot be used by the engine: {error}") from None
        if cluster == "slurm":
            from freezekit.engines.slurm_queue import ask_the_queue_without_accounts

            ask_the_queue_without_accounts()
        self._errors = (submitit.core.utils.UncompletedJobError, submitit.core.utils.FailedJobError)
        self._threads = threads if threads or one_per_host else 1
        self._block = tuple(block)
        self._poll_seconds = poll_seconds
        self._executor.update_parameters(
            timeout_min=minutes,
            slurm_partition=partition,
            slurm_exclusive=True if one_per_host else None,
            slurm_array_parallelism=MOST_OF_ARRAY,
            slurm_additional_parameters={"requeue": True},
            slurm_setup=_exports(),
        )

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Run all tasks, as `Engine.run`.

        Raises:
            EngineError: Slurm refuses the job.
        """
        check(tasks)
        jobs = self._submit(tasks) if tasks else {}
        try:
            while jobs:
                done = [job for job in jobs if job.done()]
                for job in done:
                    yield self._outcome(job, jobs.pop(job))
                if jobs and not done:
                    time.sleep(max(self._poll_seconds, len(jobs) / MOST_LOOKS_A_SECOND))
        finally:
            for job in jobs:
                job.cancel(check=False)

    def close(self) -> None:
        """Nothing is left to end: jobs end with their run."""

    def _submit(self, tasks: Sequence[Task]) -> dict[Any, Task]:  # Any: jobs, as above
        """Submit all tasks.

        Raises:
            EngineError: Slurm refuses the job.
        """
        bytes_each = max(map(host_bytes, tasks))
        self._executor.update_parameters(
            name="freezekit",
            mem_gb=(bytes_each + PROCESS_BYTES) / 2**30 if bytes_each else None,
            cpus_per_task=self._threads,
            gpus_per_node=max(task.gpus for task in tasks) or None,
        )
        calls = [TaskCall(call_of(task, self._block, self._threads)) for task in tasks]
        jobs: dict[Any, Task] = {}
        try:
            for first in range(0, len(tasks), MOST_OF_ARRAY):
                part = slice(first, first + MOST_OF_ARRAY)
                submitted = self._executor.submit_array(calls[part])
                jobs |= dict(zip(submitted, tasks[part], strict=True))
        except self._errors as error:
            for job in jobs:
                job.cancel(check=False)
            raise EngineError(f"Slurm refuses the job: {_last_line(str(error))}") from None
        return jobs

    def _outcome(self, job: Any, task: Task) -> Outcome:  # Any: a job, as above
        try:
            return Outcome(task.name, **job.result())
        except self._errors as error:
            state = str(job.state)
            what = f"the job {job.job_id} of {task.name} ended without an answer, as {state}"
            said = _last_line(job.stderr() or str(error))
            status: Literal["oom", "error"] = "oom" if state.startswith("OUT_OF_ME") else "error"
            return Outcome(task.name, status, error=f"{what}: {said} (see {job.paths.stderr})")


class TaskCall:
    """The call of a task, as submitit stores it for the host that makes it."""

    def __init__(self, made: JSON) -> None:
        """Take what `call_of` returns."""
        self._made = made

    def __call__(self) -> JSON:
        """Make the call; return the fields of an outcome."""
        attempts = int(os.environ.get("SLURM_RESTART_COUNT", "0")) + 1
        return {**call_quietly(self._made), "attempts": attempts}

    def checkpoint(self) -> Any:  # Any: submitit's type
        """Return what is queued again where time is over: the same, as tasks store their state."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _imported() -> Any:  # Any: a module
    """Return submitit.

    Raises:
        EngineError: It is not installed.
    """
    try:
        import submitit
    except ImportError as error:
        raise EngineError(
            f"the engine 'slurm' needs submitit, which cannot be imported ({error}): "
            "pip install 'freezekit[slurm]'"
        ) from None
    return submitit


def _exports() -> list[str]:
    """Return the lines of a job that make its processes like those of this machine."""
    variables = {**PINNED_ALLOCATOR, "PYTHONSAFEPATH": "1"}  # nothing of the folder is imported
    return [f"export {name}={value}" for name, value in variables.items()]


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1].strip()
