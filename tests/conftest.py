"""What all tests share."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    OnRanks = Callable[..., dict[str, list[Any]]]

ROOT = Path(__file__).parents[1]

# Tests are about bytes and bits, never about speed, and machines are shared.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the slow tests too")
    parser.addoption("--exhaustive", action="store_true", help="run all cases of each rule")
    parser.addoption("--cluster", action="store_true", help="run those on Ray and Slurm too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    skips = {
        "slow": None if config.getoption("--slow") else "slow: run with --slow",
        "exhaustive": None if config.getoption("--exhaustive") else "run with --exhaustive",
        "cluster": None if config.getoption("--cluster") else "cluster: run with --cluster",
        "gpu": None if torch.cuda.is_available() else "needs a CUDA device",
    }
    for item in items:
        for marker, reason in skips.items():
            if reason and marker in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module", autouse=True)
def _imported_objects_are_not_traversed() -> None:
    """Memory is measured between full collections: each would traverse what all of torch holds.

    Only what the tests of a module make is left to traverse. It is done for each module, as some
    parts of torch are imported late.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def on_ranks(tmp_path_factory: pytest.TempPathFactory) -> OnRanks:
    """Run a script on ranks, as torchrun does; return what all of them found, by situation.

    Its `main` writes the file SITUATION-RANK.json for each into the folder that is its argument.
    """

    def run(script: Path, ranks: int = 2) -> dict[str, list[Any]]:
        folder = tmp_path_factory.mktemp(script.stem)
        found_in = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        module = ".".join(script.relative_to(ROOT).with_suffix("").parts)
        launch = ["-m", "tests.starting_ranks", str(ranks), module]
        done = subprocess.run(
            [sys.executable, *launch, str(folder)],
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
