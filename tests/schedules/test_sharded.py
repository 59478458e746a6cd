"""Changes under `fully_shard` train what the plan says, with two real processes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import distributed

from tests.schedules.sharded_on_two_ranks import SCHEDULES, STEPS

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

WAYS = [f"{way}, {name}" for way in ("whole", "per stage") for name in ("sgd", "adamw")]


@pytest.fixture(scope="module")
def found(on_ranks: Callable[..., Found]) -> Found:
    """Return what both ranks found, by situation."""
    return on_ranks(Path(__file__).with_name("sharded_on_two_ranks.py"))


@pytest.mark.parametrize("way", WAYS)
def test_weights_are_those_of_one_process_with_all_data(found: Found, way: str) -> None:
    first, second = found[way]
    expected = found[f"one process, {way.partition(', ')[2]}"][0]
    assert first["weights"] == second["weights"]
    for weights, those in zip(first["weights"], expected["weights"], strict=True):
        assert weights == pytest.approx(those, abs=1e-6)  # the sums are in another order


@pytest.mark.parametrize("way", WAYS)
def test_what_is_trained_moves_and_nothing_else(found: Found, way: str) -> None:
    for result in found[way]:
        assert result["moved"] == result["expected"]


@pytest.mark.parametrize("way", WAYS)
def test_gradients_of_what_is_trained_are_reduced(found: Found, way: str) -> None:
    for result in found[way]:
        sent = [phase["reduce_scatter_base"] for phase in result["sent"]]
        assert sent == [STEPS * trained for trained in result["trained"]]


def test_only_per_stage_saves_gathering_what_is_frozen(found: Found) -> None:
    whole, per_stage = (
        [phase["allgather_base"] for phase in found[f"{way}, sgd"][0]["sent"]]
        for way in ("whole", "per stage")
    )
    assert len(set(whole)) == 1
    assert per_stage[0] < per_stage[1] < per_stage[2]  # a frozen prefix is not gathered again


def test_a_change_after_an_evaluation_stays(found: Found) -> None:
    for steps in found["evaluation"]:
        assert len(steps[0]) == 6
        assert steps[0] == steps[1] == steps[2]


def test_without_reshard_it_would_be_lost_after_one_step(found: Found) -> None:
    for steps in found["evaluation without reshard"]:
        assert len(steps[0]) == 6
        assert steps[1] == steps[2] == ["head.bias", "head.weight"]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_decides_as_in_one_process(found: Found, schedule: str) -> None:
    first, second = found[f"{schedule}, whole"]
    expected = found[f"{schedule}, one process"][0]
    assert first == second
    assert first["frozen"] == expected["frozen"]
    for weights, those in zip(first["weights"], expected["weights"], strict=True):
        assert torch.allclose(torch.tensor(weights), torch.tensor(those), atol=1e-6)


@pytest.mark.parametrize("way", ["whole", "per stage"])
def test_a_change_in_an_accumulation_is_refused(found: Found, way: str) -> None:
    for said, wrong in found[f"accumulating, {way}"]:
        assert "wait to be reduced, as after a backward under set_requires_gradient_sync" in said
        assert len(wrong) == 4  # of the frozen, which the optimizer would move
