"""The largest batch by real steps."""

from __future__ import annotations

from typing import Any

import pytest

from freezekit.errors import ModelError, WorkerError
from freezekit.fit.real_steps import RealSteps


def step(batch: int) -> dict[str, Any]:
    """Run out of memory above a batch of 10."""
    if batch > 10:
        return {"event": "broken", "status": "oom", "error": "killed"}
    return {"event": "memory", "memory": {"peak_bytes": 100 * batch}}


def test_a_batch_for_which_memory_runs_out_does_not_fit() -> None:
    found = RealSteps(step).find(5000, None)
    assert (found["batch_size"], found["measured_peak_bytes"]) == (10, 1000)
    assert found["next_peak_bytes"] is None


def test_the_batch_that_was_asked_for() -> None:
    assert RealSteps(step).find(500, 8)["measured_peak_bytes"] == 800
    assert RealSteps(step).find(500, 11)["status"] == "oom"


@pytest.mark.parametrize(("is_model", "kind"), [(True, ModelError), (False, WorkerError)])
def test_another_failure_ends_the_search(is_model: bool, kind: type[Exception]) -> None:
    event = {"event": "failed", "status": "error", "error": "no compiler", "model": is_model}
    with pytest.raises(kind, match="no compiler"):
        RealSteps(lambda _: event).find(500, 8)
