"""What tests of several trainers need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from accelerate.state import AcceleratorState

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def fresh_accelerate() -> Iterator[None]:
    """A process has one state of Accelerate, with one precision: begin it anew, and end it."""
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()
