"""Learning rates: what `--lr` says, and which one pilots choose."""

from __future__ import annotations

import pytest
import torch

from freezekit.errors import TrainingError
from freezekit.sweep.learning_rates import best_rate, default_grid, read_lr, told_apart
from freezekit.sweep.records import Settings
from freezekit.training.metrics import packed
from freezekit.training.records import Epoch, Recipe, Trial

SETTINGS = Settings(4, (0,))


def pilot(
    lr: float,
    figure: float | None,
    loss: float = 1.0,
    status: str = "ok",
    metric: str = "accuracy",
    correct: str | None = None,
) -> Trial:
    epochs = (Epoch(1, 1.0, lr, {metric: figure, "loss": loss}, 1.0, 0.1),)
    return Trial(Recipe("m", "full", 1, lr=lr), status, epochs=epochs, correct=correct)


def by_images(lr: float, right: str, loss: float, metric: str = "accuracy") -> Trial:
    """Return a pilot that has those images right which are 1."""
    bits = packed(torch.tensor([each == "1" for each in right]))
    return pilot(lr, right.count("1") / len(right), loss, metric=metric, correct=bits)


def test_the_best_metric_wins_then_the_loss_then_the_lower_rate():
    assert best_rate([pilot(1e-4, 0.5), pilot(1e-3, 0.7), pilot(1e-2, 0.6)], SETTINGS) == 1e-3
    assert best_rate([pilot(1e-4, 0.7, 0.9), pilot(1e-3, 0.7, 0.8)], SETTINGS) == 1e-3
    assert best_rate([pilot(1e-3, 0.7), pilot(1e-4, 0.7)], SETTINGS) == 1e-4


def test_where_few_images_tell_accuracies_by_chance_the_loss_decides():
    few = [by_images(1e-3, "0000011111", 1.6), by_images(5e-3, "1111111100", 2.2)]
    assert best_rate(few, SETTINGS) == 1e-3
    assert best_rate(few[::-1], SETTINGS) == 1e-3


def test_another_metric_stands_for_itself():
    balanced = Settings(4, (0,), metric="balanced_accuracy")
    one = by_images(1e-3, "0000011111", 1.6, "balanced_accuracy")
    two = by_images(5e-3, "1111111100", 2.2, "balanced_accuracy")
    assert best_rate([one, two], balanced) == 5e-3


def test_where_the_images_show_a_difference_the_accuracy_decides():
    many = [by_images(1e-3, "1" * 50 + "0" * 50, 1.6), by_images(5e-3, "1" * 80 + "0" * 20, 2.2)]
    assert best_rate(many, SETTINGS) == 5e-3
    worse = by_images(2e-4, "1" * 10 + "0" * 90, 0.1)  # a low loss does not help what is worse
    assert best_rate([*many, worse], SETTINGS) == 5e-3


@pytest.mark.parametrize(
    ("only_one", "only_two", "apart"),
    [(0, 0, False), (5, 0, False), (6, 0, True), (0, 6, True), (10, 10, False), (30, 10, True)],
)
def test_pilots_are_told_apart_by_the_images_that_one_alone_has_right(only_one, only_two, apart):
    one = by_images(1e-3, "1" * only_one + "0" * only_two + "1" * 40, 1.0)
    two = by_images(5e-3, "0" * only_one + "1" * only_two + "1" * 40, 1.0)
    assert told_apart(one, two) is apart
    assert told_apart(one, pilot(5e-3, 0.5))  # without bits


def test_pilots_that_diverged_or_lack_the_metric_are_out():
    bad = pilot(1e-2, 0.9, status="diverged")
    assert best_rate([bad, pilot(1e-3, 0.1), pilot(1e-4, None)], SETTINGS) == 1e-3
    assert best_rate([bad], SETTINGS) is None


def test_a_loss_is_better_where_it_is_lower():
    lower = Settings(4, (0,), metric="loss", higher_is_better=False)
    assert best_rate([pilot(1e-4, 0.9, 0.5), pilot(1e-3, 0.1, 0.3)], lower) == 1e-3


def test_the_usual_rate_is_in_the_middle_of_the_grid():
    assert default_grid("adamw")[1] == 1e-3
    assert default_grid("sgd")[1] == 1e-2


@pytest.mark.parametrize("text", ["fast", "-1", "0", "nan", "inf", "1e-3,", "", "1e9"])
def test_what_is_no_rate_is_refused(text: str):
    with pytest.raises(TrainingError, match="is no learning rate; expected 'grid', 'auto', a"):
        read_lr(text, "adamw")
