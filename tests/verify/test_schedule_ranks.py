"""A schedule is verified under DistributedDataParallel, with two real processes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from torch import distributed

if TYPE_CHECKING:
    from collections.abc import Callable

    Found = dict[str, list[dict[str, Any]]]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not distributed.is_available() or not distributed.is_gloo_available(),
        reason="this build of torch has no gloo",
    ),
]


@pytest.fixture(scope="module")
def found(on_ranks: Callable[[Path], Found]) -> Found:
    """Return what both ranks found, by situation."""
    return on_ranks(Path(__file__).with_name("schedule_on_two_ranks.py"))


def failed(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in result["checks"] if not check["passed"]}


@pytest.mark.parametrize("situation", ["right", "observed"])
def test_ranks_stay_equal_through_all_phases(found: Found, situation: str) -> None:
    one, two = found[situation]
    assert failed(one) == failed(two) == {}
    assert len(one["phases"]) >= 2
    assert [p["spec"] for p in one["phases"]] == [p["spec"] for p in two["phases"]]
    assert "on 2 ranks" in one["conditions"]


def test_a_thaw_that_the_wrapper_does_not_learn_is_found(found: Found) -> None:
    for result in found["not rebuilt"]:
        faults = failed(result)
        assert list(faults) == ["equal-on-all-ranks"]
        assert faults["equal-on-all-ranks"]["detail"].startswith("phase 2: unlike rank 0")
        assert "conv1.weight" in faults["equal-on-all-ranks"]["offenders"]


def test_ranks_trained_by_hand_are_equal_before_the_thaw(found: Found) -> None:
    for result in found["by hand, before"]:
        assert "equal-on-all-ranks" not in failed(result)


@pytest.mark.parametrize("situation", ["by hand", "by hand, unused"])
def test_a_thaw_after_wrapping_is_found(found: Found, situation: str) -> None:
    for result in found[situation]:
        fault = failed(result)["equal-on-all-ranks"]
        assert fault["detail"].startswith(
            "unlike rank 0, on rank 1: another value of a trained parameter"
        )
        assert "layer3.0.conv1.weight" in fault["offenders"]
