"""Metrics of validation: against scikit's formulas by hand, and those that fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from freezekit import Metric, TrainingError, load_registry, train
from freezekit.training.metrics import (
    BUILT_IN,
    balanced_accuracy,
    figures,
    find_metrics,
    packed,
    unpacked,
)
from tests.training.trainings import VIT, recipe

if TYPE_CHECKING:
    from pathlib import Path

    from freezekit.data.training_data import TrainingData

OWN = """
import torch
from freezekit import Metric

def mean_rank(logits, labels):
    return (logits.argsort(1, descending=True) == labels[:, None]).int().argmax(1).float().mean()

def broken(logits, labels):
    raise KeyError("no such class")

def undefined(logits, labels):
    return float("nan")

def spoils(logits, labels):
    logits.zero_()
    return 1

errors = Metric("errors", lambda logits, labels: (logits.argmax(1) != labels).sum(), False)
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    file = tmp_path / "own_metrics.py"
    file.write_text(OWN)
    return file


def test_bits_are_packed_and_unpacked() -> None:
    for count in range(1, 20):
        bits = torch.rand(count) < 0.5
        assert unpacked(packed(bits), count) == bits.tolist()


def test_a_class_without_samples_does_not_count() -> None:
    logits = torch.tensor([[3.0, 1, 0], [0, 1, 0], [0, 1, 0]])
    assert balanced_accuracy(logits, torch.tensor([0, 1, 1])) == 1


def test_own_metrics_are_found_by_file_and_name(own: Path) -> None:
    found = find_metrics([f"{own}:mean_rank", f"{own}:errors", "accuracy"], load_registry())
    assert [metric.name for metric in found[3:]] == ["mean_rank", "errors"]
    assert not found[4].higher_is_better
    values, notes = figures(found, torch.eye(3), torch.tensor([0, 1, 0]))
    assert (values["mean_rank"], values["errors"], notes) == (pytest.approx(1 / 3), 1.0, ())


def test_metrics_that_fail_have_no_value_and_the_training_goes_on(
    own: Path, data: TrainingData
) -> None:
    texts = [f"{own}:{name}" for name in ("broken", "undefined", "spoils")]
    trial = train(recipe(model=VIT, epochs=2), data, metrics=texts).trial
    last = trial.epochs[-1].val
    assert trial.status == "ok"
    assert (last["broken"], last["undefined"], last["spoils"]) == (None, None, 1.0)
    assert (
        last["accuracy"]
        == train(recipe(model=VIT, epochs=2), data).trial.epochs[-1].val["accuracy"]
    )
    assert trial.notes == (
        "the metric 'broken' raised KeyError: 'no such class'; it has no value then",
        "the metric 'undefined' returned nan; it has no value then",
    )


def test_one_that_is_new_at_a_resume_is_told(own: Path, data: TrainingData, tmp_path: Path) -> None:
    case, kept = recipe(model=VIT, epochs=2), tmp_path / "kept"
    train(case, data, checkpoint=kept, until=1)
    one = train(case, data, checkpoint=kept, resume=True, metrics=f"{own}:mean_rank").trial
    assert "mean_rank" in one.epochs[1].val
    assert one.notes == (
        "the metric 'mean_rank' is new: epoch 1 was validated without it; it has values from "
        "epoch 2 on",
    )
    two = train(case, data, checkpoint=kept, resume=True, metrics=[f"{own}:errors"]).trial
    assert two.notes[-1] == (
        "the metric 'errors' is new: epochs 1 to 2 were validated without it, and the training "
        "has ended"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("top5", "the metric 'top5' is unknown; expected 'path/to/file.py:function'"),
        ("nowhere.py:f", "there is no file 'nowhere.py'"),
        ("own:nothing", "has no function 'nothing'"),
        ("own:torch", "has no function 'torch'"),
    ],
)
def test_a_metric_that_is_not_there_is_refused(text: str, said: str, own: Path) -> None:
    given = text.replace("own:", f"{own}:")
    with pytest.raises(TrainingError) as error:
        find_metrics([given], load_registry())
    assert said in str(error.value)


def test_a_name_that_is_taken_is_refused(own: Path) -> None:
    own.write_text("def accuracy(logits, labels): return 1\n")
    with pytest.raises(TrainingError, match="has the name of another one"):
        find_metrics([f"{own}:accuracy"], load_registry())


def test_the_note_names_the_plugin() -> None:
    metric = Metric("broken", lambda logits, labels: 1 / 0, origin="plugin 'x' of y 1")
    _, notes = figures([*BUILT_IN, metric], torch.eye(2), torch.tensor([0, 1]))
    assert notes[0].startswith("the metric 'broken' of plugin 'x' of y 1 raised ZeroDivisionError")
