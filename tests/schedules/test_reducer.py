"""Replicas stay equal when what is trained changes under DDP, with two real processes."""

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

EXACT = ["plain", "counted", "find unused", "views", "small buckets", "no buffers", "skip unused"]
ROUNDED = {
    "fp16": "fp16_compress_hook",
    "PowerSGD": "powerSGD_hook",
    "built-in hook": "BuiltinCommHookType.FP16_COMPRESS",
}
WAYS = [
    *(f"{way}, {name}" for way in ("in place", "anew") for name in (*EXACT, *ROUNDED)),
    "in place, compiled inside",
    "in place, compiled outside",
    "new group",
]


@pytest.fixture(scope="module")
def found(on_ranks: Callable[..., Found]) -> Found:
    """Return what both ranks found, by situation."""
    return on_ranks(Path(__file__).with_name("reducer_on_two_ranks.py"))


def test_without_rebuild_replicas_diverge(found: Found) -> None:
    for result in found["without rebuild"]:
        head, two_parts, *_ = result["divergence"]
        assert head == 0
        assert two_parts > 0.01


@pytest.mark.parametrize("way", WAYS)
def test_replicas_have_the_same_bits_after_each_step(found: Found, way: str) -> None:
    first, second = found[way]
    assert first["divergence"] == second["divergence"] == [0.0] * 5
    assert first["weights"] == second["weights"]


@pytest.mark.parametrize("way", [w for w in WAYS if w.partition(", ")[2] not in ROUNDED])
def test_weights_are_those_of_a_new_wrapper_for_each_phase(found: Found, way: str) -> None:
    assert found[way][0]["weights"] == found["reference"][0]["weights"]


@pytest.mark.parametrize("way", ["in place", "anew"])
def test_what_is_sent_is_what_is_trained(found: Found, way: str) -> None:
    for result in found[f"{way}, counted"]:
        assert result["on_wire"] == result["trained"]
        head, two_parts, everything, *_ = result["trained"]
        assert head < two_parts < everything


@pytest.mark.parametrize("way", WAYS)
def test_settings_stay(found: Found, way: str) -> None:
    for result in found[way]:
        before, after = result["settings"]
        assert before == after
        assert result["lost"] == []


@pytest.mark.parametrize("way", ["in place", "anew"])
@pytest.mark.parametrize("name", ROUNDED)
def test_hooks_stay_in_force(found: Found, way: str, name: str) -> None:
    for result in found[f"{way}, {name}"]:
        assert result["comm_hook"] == ROUNDED[name]
        assert result["hooks"] == (name != "built-in hook")
        assert result["weights"] != found["reference"][0]["weights"]


REFUSALS = {
    "no wrapper": "ddp is a Sequential, expected the DistributedDataParallel",
    "another model": "ddp wraps another model: a Sequential that does not contain this Sequential",
    "no_sync": "is inside no_sync(), where gradients wait to be reduced; leave it first",
    "static": "was made with static_graph=True, which fixes what is trained; make it without",
    "delayed": "was made with delay_all_reduce_named_params, whose buffer cannot change",
    "mixed precision": "was made with mixed_precision, which casts what is trained; use torch.auto",
    "python reducer": "has the reducer of torch._dynamo.config.optimize_ddp = 'python_reducer'",
    "optimizer in backward": "has parameters whose optimizer steps inside backward; step it after",
    "in forward": "is inside its forward; change between two steps",
    "in backward": "is inside a backward; change between two steps",
    "unknown torch": "has no '_comm_hooks', without which its settings would be lost",
    "nothing trained": "nothing would be trained that this DistributedDataParallel reduces",
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_be_rebuilt_is_refused(found: Found, name: str) -> None:
    for result in found["refusals"]:
        assert result[name].startswith("FreezeError: ")
        assert REFUSALS[name] in result[name]


def test_a_wrapper_of_the_model_or_of_a_model_around_it_is_accepted(found: Found) -> None:
    for result in found["refusals"]:
        assert result["plain"] == result["part"] == "accepted"


def test_an_unfinished_reduction_is_refused(found: Found) -> None:
    for said in found["unused without flag"]:
        assert "make it with find_unused_parameters=True" in said


def test_a_backward_from_before_the_change_raises(found: Found) -> None:
    for result in found["stale"]:
        assert "was changed between this backward and its forward" in result["said"]
        assert result["divergence"] == 0  # of the steps after it
        assert result["hooks"] == 0


def test_gradients_that_are_views_of_old_buckets_stay(found: Found) -> None:
    for result in found["accumulated"]:
        assert result == {"same": True, "divergence": 0.0}


def test_a_change_inside_join(found: Found) -> None:
    for result in found["joined"]:
        assert result == {"divergence": 0.0}


def test_buffers_of_held_modules_are_those_of_the_first_rank(found: Found) -> None:
    for rank, buffers in enumerate(found["held buffers"]):
        assert buffers["body.0.flags"] == [False, False]
        assert buffers["body.0.1.running_mean"] == [0.0] * 8
        assert buffers["body.0.1.num_batches_tracked"] == 0
        assert buffers["body.0.local"] == [1.0 * rank] * (2 + rank)  # DDP was told to ignore it
        assert buffers["body.1.1.running_mean"] == [1.0 * rank] * 8  # not held


def test_the_wrapper_around_a_model_is_found(found: Found) -> None:
    for result in found["found wrappers"]:
        assert result == {"none": 0, "found": [True]}


def test_a_wrapper_that_was_made_after_follow_is_told_at_the_first_step(found: Found) -> None:
    for said in found["wrapped after follow"]:
        assert "is wrapped in DistributedDataParallel" in said
        assert "give it as ddp=" in said
