"""What tests of measuring processes need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from freezekit.bench.processes import worker_environment
from tests.fork_server import SERVER

if TYPE_CHECKING:
    from freezekit.bench.forked import ForkServer


@pytest.fixture
def fork_server() -> ForkServer:
    """It imports torch, torchvision and timm, which takes seconds, for the first test alone."""
    SERVER.prepare("timm:test_resnet", worker_environment())
    return SERVER
