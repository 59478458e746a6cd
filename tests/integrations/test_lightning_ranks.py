"""Under DistributedDataParallel, Lightning trains as a plain loop does, and ranks stay equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(on_ranks: Any) -> dict[str, list[Any]]:
    return on_ranks(Path(__file__).with_name("lightning_on_two_ranks.py"))


@pytest.mark.exhaustive
def test_two_ranks_have_the_bits_of_a_plain_loop_resumed_and_cached_too(
    found: dict[str, list[Any]],
) -> None:
    expected, other = found["plain"]
    assert expected == other
    assert found["whole"] == [expected, expected]
    assert found["resumed"] == [[expected] * 2] * 2
    assert found["on_images"] == found["cached"]
    assert found["cached"][0] == found["cached"][1]


def test_what_the_page_says_of_backbone_finetuning_is_so(found: dict[str, list[Any]]) -> None:
    first, second = found["backbone_finetuning"]
    for rank in (first, second):
        frozen = rank["1"]
        assert frozen["moved"] == ["num_batches_tracked", "running_mean", "running_var"]
        assert frozen["have gradients"]
        assert frozen["in train mode"]
    assert first["1"]["weights"] == second["1"]["weights"]
    assert first["3"]["weights"] != second["3"]["weights"], "thawed, and not reduced"
