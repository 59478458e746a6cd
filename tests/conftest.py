"""What all tests share."""

from __future__ import annotations

import gc
import os

import pytest
import torch

# Tests are about bytes and bits, never about speed, and machines are shared.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the slow tests too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    skips = {
        "slow": None if config.getoption("--slow") else "slow: run with --slow",
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
