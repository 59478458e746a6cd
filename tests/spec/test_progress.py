"""How far a training has come, at the ends of epochs."""

from __future__ import annotations

from fractions import Fraction

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


@pytest.mark.parametrize("steps_per_epoch", [7, 10, 49, 98, 100, 625])
@pytest.mark.parametrize("epochs", [1, 2, 3, 7, 11])
def test_a_time_within_an_epoch_comes_at_its_step(epochs: int, steps_per_epoch: int) -> None:
    for percent in range(1, 100):
        exact = Fraction(percent * epochs * steps_per_epoch, 100)
        first = -(-exact.numerator // exact.denominator)
        for step, is_there in ((first - 1, False), (first, True)):
            epoch, in_epoch = divmod(step, steps_per_epoch)
            now = Progress(step, epoch, in_epoch, epochs, steps_per_epoch)
            assert now.has_reached(TrainingTime(percent, "%")) is is_there, (percent, step)


@pytest.mark.parametrize("text", ["0.00001ep", "1.5ep", "500step", "12.5%"])
def test_the_text_of_a_time_can_be_read(text: str) -> None:
    assert str(TrainingTime.parse(text)) == text
