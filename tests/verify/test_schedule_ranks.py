"""A schedule is verified under DistributedDataParallel, with two real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torch import distributed

SCRIPT = Path(__file__).with_name("schedule_on_two_ranks.py")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not distributed.is_available() or not distributed.is_gloo_available(),
        reason="this build of torch has no gloo",
    ),
]


def on_two_ranks(folder: Path, case: str) -> list[dict[str, Any]]:
    env = {"GLOO_SOCKET_IFNAME": "lo"} | os.environ | {"OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), str(folder), case],
            env=env,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [rank.communicate(timeout=120)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(said)
    return [json.loads((folder / f"{case}-{rank}.json").read_text()) for rank in range(2)]


def test_ranks_stay_equal_through_a_thaw(tmp_path: Path) -> None:
    for found in on_two_ranks(tmp_path, "right"):
        assert found["passed"], found


def test_a_thaw_that_the_wrapper_does_not_learn_is_found(tmp_path: Path) -> None:
    for found in on_two_ranks(tmp_path, "not rebuilt"):
        failed = {check["name"]: check for check in found["checks"] if not check["passed"]}
        assert list(failed) == ["equal-on-all-ranks"]
        assert failed["equal-on-all-ranks"]["detail"].startswith("phase 2: unlike rank 0")
        assert "conv1.weight" in failed["equal-on-all-ranks"]["offenders"]
