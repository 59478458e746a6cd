"""A process that answers jobs, one JSON line each: `python -m benchmarks.zoo.worker TASK`."""

from __future__ import annotations

import importlib
import json
import os
import sys
import warnings

TASKS = {
    "coverage": "benchmarks.zoo.coverage",
    "stages": "benchmarks.zoo.stage_lines",
    "verify": "benchmarks.zoo.verify_families",
    "peers": "benchmarks.zoo.peers",
    "lean": "benchmarks.lean.compare",
    "lean-partition": "benchmarks.lean.partition",
    "lean-compiled": "benchmarks.lean.compare_compiled",
    "phases": "benchmarks.phases.one_model",
    "cache": "benchmarks.cache.one_model",
}
"""What can be asked, and the module whose `examine` answers."""


def main() -> None:
    """Answer the jobs on stdin until there are no more."""
    # Models print while they are built: stdout proper is for answers alone.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    import torch

    torch.set_num_threads(1)
    examine = importlib.import_module(TASKS[sys.argv[1]]).examine
    for line in sys.stdin:
        print(json.dumps(examine(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
