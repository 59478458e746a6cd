"""Ranks that differ are an error on all of them, and never a hang: three real processes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from torch import distributed

if TYPE_CHECKING:
    from collections.abc import Callable

    Found = dict[str, list[Any]]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not distributed.is_available() or not distributed.is_gloo_available(),
        reason="this build of torch has no gloo",
    ),
]


@pytest.fixture(scope="module")
def found(on_ranks: Callable[..., Found]) -> Found:
    """Return what the ranks found, by situation."""
    return on_ranks(Path(__file__).with_name("agreement_on_three_ranks.py"), ranks=3)


@pytest.mark.parametrize("situation", ["same", "same again"])
def test_equal_facts_pass(found: Found, situation: str) -> None:
    assert found[situation] == [None, None, None]


@pytest.mark.parametrize(
    ("situation", "said"),
    [
        ("one differs", "plan is 'full' on ranks 0, 2 and 'head-only' on rank 1"),
        ("one lacks", "step is '3' on ranks 0, 1 and missing on rank 2"),
    ],
)
def test_what_differs_is_named_on_every_rank(found: Found, situation: str, said: str) -> None:
    expected = f"FreezeError: change_ was not called alike on all ranks: {said}; give every rank"
    assert found[situation] == [f"{expected} the same"] * 3


def test_long_values_are_shown_where_they_differ(found: Found) -> None:
    for said in found["all differ"]:
        plan, step = said.split("; ")[:2]
        assert "rate 0' (a part of it) on rank 0" in plan
        assert "rate 2' (a part of it) on rank 2" in plan
        assert len(plan) < 400
        assert step == "step is '0' on rank 0 and '1' on rank 1 and '2' on rank 2"


def test_a_rank_that_does_not_call_is_named(found: Found) -> None:
    first, absent, third = found["one is absent"]
    assert absent is None
    for rank, said in ((0, first), (2, third)):
        assert said == (
            f"FreezeError: change_ was called on rank {rank}, but within 4 s not on rank 1: it "
            "compares what it was given on all 3 ranks; call it on every rank, or before the "
            "process group is initialized"
        )


def test_ranks_in_different_functions_do_not_meet(found: Found) -> None:
    first, second, third = found["another call"]
    assert "change_ was called on rank 0, but within 4 s not on rank 1:" in first
    assert "follow was called on rank 1, but within 4 s not on ranks 0, 2:" in second
    assert "change_ was called on rank 2, but within 4 s not on rank 1:" in third


def test_only_the_ranks_of_the_group_take_part(found: Found) -> None:
    assert found["in a group"] == [[{"loss": 2.0}], [{"loss": 1.0}], [{"loss": 2.0}]]


def test_means_have_equal_bits(found: Found) -> None:
    mean = (0.1 + 0.7 + 1e17) / 3
    assert found["means"] == [[f"loss {mean.hex()}", f"accuracy {(0.5).hex()}"]] * 3


def test_what_is_not_finite_passes_through(found: Found) -> None:
    assert found["not finite"] == [["nan", "inf", "nan"]] * 3


def test_other_names_of_metrics_are_an_error_on_every_rank(found: Found) -> None:
    expected = (
        "FreezeError: the metrics differ between ranks: mean_over_ranks was given 'accuracy, loss' "
        "on rank 0 and 'loss' on ranks 1, 2; give every rank the same names"
    )
    assert found["other names"] == [expected] * 3


def test_many_rounds_leave_no_keys_in_the_store(found: Found) -> None:
    for before, after in found["keys left"]:
        assert before == after
