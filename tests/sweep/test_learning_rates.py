"""Learning rates: what `--lr` says, and which one pilots choose."""

from __future__ import annotations

import pytest

from freezekit.errors import TrainingError
from freezekit.sweep.learning_rates import best_rate, default_grid, read_lr
from freezekit.sweep.records import Settings
from freezekit.training.records import Epoch, Recipe, Trial

SETTINGS = Settings(4, (0,))


def pilot(lr: float, accuracy: float | None, loss: float = 1.0, status: str = "ok") -> Trial:
    epochs = (Epoch(1, 1.0, lr, {"accuracy": accuracy, "loss": loss}, 1.0, 0.1),)
    return Trial(Recipe("m", "full", 1, lr=lr), status, epochs=epochs)


def test_the_best_metric_wins_then_the_loss_then_the_lower_rate():
    assert best_rate([pilot(1e-4, 0.5), pilot(1e-3, 0.7), pilot(1e-2, 0.6)], SETTINGS) == 1e-3
    assert best_rate([pilot(1e-4, 0.7, 0.9), pilot(1e-3, 0.7, 0.8)], SETTINGS) == 1e-3
    assert best_rate([pilot(1e-3, 0.7), pilot(1e-4, 0.7)], SETTINGS) == 1e-4


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
