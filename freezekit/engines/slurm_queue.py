"""The state of Slurm jobs, asked of `squeue` where Slurm keeps no accounts.

submitit asks `sacct`, which then does not answer. Without this, a job
that ends without an answer would never be seen to end.
"""

from __future__ import annotations

import getpass
import subprocess

from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob

ENDED = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "TIMEOUT",
    }
)
MOST_SECONDS = 60
"""Between two questions; soon after a submission they are more frequent."""


class QueueWatcher(SlurmInfoWatcher):
    """Knows the state of jobs from `squeue`, which forgets those that ended minutes ago."""

    def _make_command(self) -> list[str] | None:
        if not self._registered - self._finished:
            return None
        mine = f"--user={getpass.getuser()}"
        return ["squeue", "--noheader", "--array", "--states=all", mine, "--format=%i|%T"]

    def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
        """Return the state of each job: "GONE" where the queue no longer knows it."""
        text = string if isinstance(string, str) else string.decode()
        known = dict(line.split("|", 1) for line in text.split())
        return {job: {"JobID": job, "State": _state(known.get(job))} for job in self._registered}


def _state(queued: str | None) -> str:
    if queued is None:
        return "GONE"
    return queued if queued in ENDED else "RUNNING"  # submitit does not know all that are waiting


def ask_the_queue_without_accounts() -> None:
    """Let submitit ask `squeue` for all jobs of this process, where `sacct` does not answer."""
    try:
        subprocess.run(["sacct", "--noheader", "--starttime=now"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        SlurmJob.watcher = QueueWatcher(delay_s=MOST_SECONDS)
