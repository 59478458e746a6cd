"""`verify` compares the model on all ranks, with two real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torch import distributed

SCRIPT = Path(__file__).with_name("on_two_ranks.py")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not distributed.is_available() or not distributed.is_gloo_available(),
        reason="this build of torch has no gloo",
    ),
]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """Return what both ranks found, by situation."""
    folder = tmp_path_factory.mktemp("ranks")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run = subprocess.run(
        [sys.executable, *launch, str(SCRIPT), str(folder)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    results: dict[str, list[Any]] = {}
    for path in sorted(folder.iterdir()):
        name, _ = path.stem.split("-")
        results.setdefault(name, []).append(json.loads(path.read_text()))
    return results


def check(result: dict[str, Any]) -> dict[str, Any]:
    assert "checks" in result, result
    return next(c for c in result["checks"] if c["name"] == "equal-on-all-ranks")


@pytest.mark.parametrize("situation", ["same", "same again"])
def test_equal_models_pass(found: dict[str, list[Any]], situation: str) -> None:
    for result in found[situation]:
        assert result["passed"], result
        assert check(result)["detail"] == (
            "7 tensors have the same bits on 2 ranks; trained parameters are compared under "
            "DistributedDataParallel only"
        )


@pytest.mark.parametrize(
    ("situation", "said", "names"),
    [
        ("frozen weight", "another value of a frozen parameter (1)", ["body.0.weight"]),
        ("statistics", "another value of a held buffer (1)", ["body.1.running_mean"]),
        ("trained in DDP", "another value of a trained parameter (1)", ["head.weight"]),
        ("wrapper itself", "another value of a trained parameter (1)", ["head.bias"]),
    ],
)
def test_what_differs_is_named_on_every_rank(
    found: dict[str, list[Any]], situation: str, said: str, names: list[str]
) -> None:
    for result in found[situation]:
        assert not check(result)["passed"]
        assert check(result)["offenders"] == names
        assert check(result)["detail"] == f"unlike rank 0, on rank 1: {said}: {names[0]!r}"
        assert [c["name"] for c in result["checks"] if not c["passed"]] == ["equal-on-all-ranks"]


def test_another_plan_on_a_rank_is_found(found: dict[str, list[Any]]) -> None:
    for result in found["other plan"]:
        assert not check(result)["passed"]
        said = check(result)["detail"]
        assert "trained parameter, not frozen parameter (2): 'body.1.bias', 'body.1.weight'" in said
        assert "live buffer, not held buffer (3): 'body.1.num_batches_tracked'" in said


def test_trained_parameters_may_differ_without_ddp(found: dict[str, list[Any]]) -> None:
    assert all(result["passed"] for result in found["trained without DDP"])


def test_steps_on_copies_leave_ddp_as_it_is(found: dict[str, list[Any]]) -> None:
    for result in found["after training in DDP"]:
        assert result["passed"], result
        assert check(result)["detail"] == "9 tensors have the same bits on 2 ranks"


def test_another_model_on_a_rank_is_left_out(found: dict[str, list[Any]]) -> None:
    first, second = found["other model"]
    assert first["passed"]
    assert check(first)["detail"].startswith(
        "7 tensors have the same bits on 1 rank; another model"
    )
    assert second["passed"]
    assert "this rank has another model than rank 0" in check(second)["detail"]


def test_a_rank_that_does_not_call_is_named(found: dict[str, list[Any]]) -> None:
    alone, other = found["one rank alone"]
    assert other is None
    assert alone["error"] == (
        "FreezeError: verify was called on rank 0, but within 1 s not on rank 1: it compares the "
        "model on all 2 ranks; call it on every rank, or before the process group is initialized"
    )
