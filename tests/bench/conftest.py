"""A process that forks measuring processes, for all tests that need no other one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from freezekit.bench.forked import ForkServer
from freezekit.bench.processes import worker_environment

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    """It imports torch, torchvision and timm, which takes seconds."""
    with ForkServer() as found:
        found.prepare("timm:test_resnet", worker_environment())
        yield found
