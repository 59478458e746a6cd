"""Under DistributedDataParallel, Trainer and Accelerate train as plain loops; ranks stay equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def test_two_ranks_have_the_bits_of_a_plain_loop_resumed_and_cached_too(on_ranks: Any) -> None:
    found = on_ranks(Path(__file__).with_name("hugging_face_on_two_ranks.py"))
    expected, other = found["plain"]
    assert expected == other
    assert found["whole"] == [expected, expected]
    assert found["accelerated_"] == [expected, expected]
    assert found["resumed"] == [[expected] * 2] * 2
    assert found["on_images"] == found["cached"]
    assert found["cached"][0] == found["cached"][1]
    first, second = found["frozen_after_prepare"]
    assert first == second
