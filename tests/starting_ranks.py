"""Starts the ranks of a training as forks of one process, which has imported what they import.

Run as `python -m tests.starting_ranks RANKS MODULE FOLDER`: each rank runs `MODULE.main(FOLDER)` in
the environment that torchrun gives to its processes. Under torchrun, it and each rank would import
torch and the trainer on their own, for seconds each. `tests/verify/test_ranks.py` runs under
torchrun itself.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from pathlib import Path

from torch.distributed import TCPStore


def main(ranks: int, name: str, folder: Path) -> int:
    """Return the exit code of the starting process, or of a rank."""
    module = importlib.import_module(name)
    assert threading.active_count() == 1, "a thread does not live on in a fork"
    receiver, sender = os.pipe()
    started = {}
    for rank in range(ranks):
        pid = os.fork()
        if pid == 0:
            os.close(sender)
            os.environ |= _environment(rank, ranks, int(os.read(receiver, 8)))
            module.main(folder)
            return 0
        started[pid] = rank
    # Made after the forks: it has threads. A port of its own choice is free for certain.
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    os.write(sender, f"{store.port:08}".encode() * ranks)
    while started:
        pid, status = os.wait()
        rank = started.pop(pid)
        if status:
            print(f"rank {rank} ended with {os.waitstatus_to_exitcode(status)}", file=sys.stderr)
            for other in started:  # they would wait for it
                os.kill(other, signal.SIGKILL)
            return 1
    return 0


def _environment(rank: int, ranks: int, port: int) -> dict[str, str]:
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "GROUP_RANK": "0",
        "GROUP_WORLD_SIZE": "1",
        "ROLE_RANK": str(rank),
        "ROLE_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "tests",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
    }


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
