"""Scripts that run on several real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    OnRanks = Callable[..., dict[str, list[Any]]]


@pytest.fixture(scope="session")
def on_ranks(tmp_path_factory: pytest.TempPathFactory) -> OnRanks:
    """Run a script by torchrun; return what all ranks found, by situation.

    The script writes the file SITUATION-RANK.json for each into the folder that is its argument.
    """

    def run(script: Path, ranks: int = 2) -> dict[str, list[Any]]:
        folder = tmp_path_factory.mktemp(script.stem)
        found_in = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
        done = subprocess.run(
            [sys.executable, *launch, str(script), str(folder)],
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(found_in)},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, list[Any]] = {}
        for path in sorted(folder.iterdir()):
            situation, _, _ = path.stem.rpartition("-")
            found.setdefault(situation, []).append(json.loads(path.read_text()))
        return found

    return run
