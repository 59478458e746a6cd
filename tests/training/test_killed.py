"""A training whose process is killed goes on from its checkpoint, with the same bits."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from freezekit import Recipe, TrainingError, train
from tests.training.trainings import THAWS, VIT, facts, recipe, same_weights

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from freezekit.data.training_data import TrainingData

CASES = {
    "full": recipe("full", model=VIT, augment="standard", epochs=3),
    "cached, schedule, averaged": recipe(model=VIT, schedule=THAWS, ema=0.8),
}


def in_a_process_that_is_killed(work: Callable[[], object]) -> None:
    """Run in a forked process, which has to end by SIGKILL."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "it was not killed"
    assert os.WTERMSIG(status) == signal.SIGKILL


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_in_the_middle_of_an_epoch(case: Recipe, data: TrainingData, tmp_path: Path) -> None:
    steps = iter(range(1, 100))

    def killed() -> None:
        at = lambda *_: kill() if next(steps) == 10 else None  # noqa: E731  # in the third epoch
        train(case, data, checkpoint=tmp_path, on_step=at)

    in_a_process_that_is_killed(killed)
    resumed = train(case, data, checkpoint=tmp_path, resume=True)
    assert resumed.trial.resumed == 1
    whole = train(case, data)
    assert same_weights(whole, resumed)
    assert facts(whole.trial) == facts(resumed.trial)


def test_in_the_middle_of_a_write(data: TrainingData, tmp_path: Path) -> None:
    def killed() -> None:
        renames = iter(range(1, 100))

        def watch(event: str, arguments: tuple[object, ...]) -> None:
            if event == "os.rename" and "checkpoint.pt" in str(arguments) and next(renames) == 2:
                kill()

        sys.addaudithook(watch)  # it cannot be removed: only this process has it
        train(case, data, checkpoint=tmp_path)

    case = recipe(model=VIT, epochs=2)
    in_a_process_that_is_killed(killed)
    drafts = [path.name for path in tmp_path.iterdir() if path.name != "checkpoint.pt"]
    assert len(drafts) == 1
    resumed = train(case, data, checkpoint=tmp_path, resume=True)
    assert (resumed.trial.resumed, resumed.trial.status) == (1, "ok")
    assert same_weights(train(case, data), resumed)


def test_without_space_what_was_kept_before_stays(data: TrainingData, tmp_path: Path) -> None:
    import resource

    train(recipe("full", model=VIT), data, checkpoint=tmp_path, until=1)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, limits[1]))
    try:
        with pytest.raises(TrainingError) as error:
            train(recipe("full", model=VIT), data, checkpoint=tmp_path, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "the checkpoint of epoch 2 cannot be kept: cannot write" in str(error.value)
    assert "file too large" in str(error.value)
    assert "epochs 1 to 1 are kept" in str(error.value)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
