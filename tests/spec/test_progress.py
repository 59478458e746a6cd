"""How far a training has come, at the ends of epochs."""

from __future__ import annotations

import pytest

from freezekit import Progress, TrainingTime


@pytest.mark.parametrize("epoch", [0, 1, 6, 299])
@pytest.mark.parametrize("steps", [1, 3, 100, 200])
def test_an_epoch_ends_at_its_end_and_not_at_its_last_step(epoch: int, steps: int) -> None:
    totals = {"epochs": 300, "steps_per_epoch": 100}
    last = Progress(step=99, epoch=epoch, step_in_epoch=steps, **totals)
    ended = Progress(step=99, epoch=epoch + 1, **totals)
    time = TrainingTime(epoch + 1, "ep")
    assert last.position < epoch + 1 == ended.position
    assert (last.has_reached(time), ended.has_reached(time)) == (False, True)
    assert (last.periods(TrainingTime(1, "ep")), ended.periods(TrainingTime(1, "ep"))) == (
        epoch,
        epoch + 1,
    )
    assert last.share < 1


@pytest.mark.parametrize("percent", range(1, 101))
def test_a_percent_of_a_hundred_epochs_is_an_epoch(percent: int) -> None:
    now = Progress(epoch=percent, epochs=100)
    assert now.has_reached(TrainingTime(percent, "%"))
    assert now.periods(TrainingTime(1, "%")) == percent
