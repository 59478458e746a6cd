"""A training has the same bits with and without a cache, with workers, and in parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from msgspec.structs import replace

from freezekit import FreezekitError, Recipe, TrainingError, train
from freezekit.data.preprocessing import preprocessing_of
from freezekit.model.random_state import RandomState
from freezekit.training.metrics import unpacked
from tests.sampled import sampled
from tests.training.trainings import (
    REFREEZES,
    RESNET,
    VIT,
    WITHIN,
    facts,
    learnt,
    recipe,
    same_weights,
)

if TYPE_CHECKING:
    from pathlib import Path

    from freezekit.data.training_data import TrainingData

CASES = {
    "head": recipe(),
    "within an epoch": recipe(model=VIT, schedule=WITHIN),
    "refreezes, averaged": recipe("last-n-stages:n=3", model=VIT, schedule=REFREEZES, ema=0.8),
    "lean, bfloat16": recipe("first-n-stages:n=2", model=VIT, lean=True, amp="bfloat16"),
}


@pytest.mark.parametrize("case", sampled(CASES.values(), every=2), ids=CASES)
def test_a_cache_and_a_pause_change_no_bit(
    case: Recipe, data: TrainingData, tmp_path: Path
) -> None:
    whole = train(case, data)
    assert any(epoch.cached for epoch in whole.trial.epochs)
    uncached = train(replace(case, cache="off"), data)
    assert not any(epoch.cached for epoch in uncached.trial.epochs)
    assert same_weights(whole, uncached)
    assert learnt(whole.trial) == learnt(uncached.trial)
    first = train(case, data, checkpoint=tmp_path, until=2)
    assert (first.trial.status, len(first.trial.epochs)) == ("running", 2)
    second = train(case, data, checkpoint=tmp_path, resume=True)
    assert (second.trial.status, second.trial.resumed) == ("ok", 1)
    assert same_weights(whole, second)
    assert facts(whole.trial) == facts(second.trial)
    assert whole.trial.correct == second.trial.correct


def test_workers_and_what_was_drawn_before_change_no_bit(data: TrainingData) -> None:
    case = recipe("full", augment="standard", epochs=1)
    one = train(case, data)
    torch.rand(3)
    before = RandomState.now()
    other = train(case, data, workers=2)
    assert before == RandomState.now()
    assert same_weights(one, other)
    third = train(replace(case, seed=1), data)
    assert not same_weights(one, third)


def test_figures_are_those_of_the_model_that_is_returned(data: TrainingData) -> None:
    done = train(recipe("full", ema=0.5, epochs=2), data)
    assert not done.model.training
    assert done.preprocessing.startswith("resize 33 (bilinear), centre crop 32x32")
    transform = preprocessing_of(done.model, RESNET, 32)
    images = torch.stack([transform(data.val[index][0]) for index in range(6)])
    right = done.model(images).argmax(1) == torch.tensor(done.data.val_labels)
    assert unpacked(str(done.trial.correct), 6) == right.tolist()
    assert done.trial.epochs[-1].val["accuracy"] == right.double().mean().item()


def test_a_cached_epoch_costs_less_and_its_filling_is_counted_once(data: TrainingData) -> None:
    cached, images = (
        [epoch.flops for epoch in train(recipe(model=VIT, cache=cache), data).trial.epochs]
        for cache in ("auto", "off")
    )
    assert len(set(images)) == 1
    assert cached[0] > images[0] > cached[1] == cached[2]  # type: ignore[operator]  # they are counted


def test_the_learning_rate_rises_and_falls(data: TrainingData) -> None:
    trial = train(recipe(warmup=0.5, epochs=2), data).trial
    assert [epoch.lr for epoch in trial.epochs] == pytest.approx([3e-3, 3e-3 * 0.14645], rel=1e-3)


def test_a_loss_that_is_no_number_ends_the_training(data: TrainingData, tmp_path: Path) -> None:
    case = recipe("full", optimizer="sgd", lr=1e6, warmup=0, label_smoothing=0)
    trial = train(case, data, checkpoint=tmp_path).trial
    assert trial.status == "diverged"
    assert trial.error is not None
    assert "not finite" in trial.error or "the loss is nan in step" in trial.error
    again = train(case, data, checkpoint=tmp_path, resume=True).trial
    assert (again.status, facts(again)) == ("diverged", facts(trial))


def test_a_deadline_stops_before_an_epoch_that_would_end_too_late(
    data: TrainingData, tmp_path: Path
) -> None:
    case = recipe(model=VIT, epochs=1)
    late = train(case, data, checkpoint=tmp_path, deadline=0.0)
    assert (late.trial.status, late.trial.epochs) == ("stopped", ())
    done = train(case, data, checkpoint=tmp_path, resume=True)
    assert (done.trial.status, done.trial.error) == ("ok", None)
    assert same_weights(done, train(case, data))


def test_the_range_test_gives_the_same_rate_and_leaves_no_trace(
    data: TrainingData, tmp_path: Path
) -> None:
    found = train(recipe(model=VIT, lr="auto", epochs=1), data, checkpoint=tmp_path)
    assert found.trial.lr is not None
    assert 1e-5 < found.trial.lr < 1
    given = train(recipe(model=VIT, lr=found.trial.lr, epochs=1), data)
    assert same_weights(found, given)
    again = train(recipe(model=VIT, lr="auto", epochs=1), data, checkpoint=tmp_path, resume=True)
    assert again.trial.lr == found.trial.lr


def test_a_schedule_that_observes_is_followed(data: TrainingData) -> None:
    text = "on-plateau:phases=head-only|full,metric=accuracy,mode=max,patience=1,min_delta=1.0"
    trial = train(recipe(model=VIT, schedule=text), data).trial
    assert [epoch.cached for epoch in trial.epochs] == [True, True, False, False]
    text = "plasticity:every=2,window=2"
    assert train(recipe("full", schedule=text, epochs=2), data).trial.status == "ok"


def test_warnings_of_freezekit_are_notes(data: TrainingData) -> None:
    trial = train(recipe("by-name:contains=bn", epochs=1, cache="off"), data).trial
    assert any("batch norms by type" in note for note in trial.notes)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"epochs": 0}, "the recipe cannot be: epochs is 0, expected `int` >= 1"),
        ({"lr": -1.0}, "the recipe cannot be: lr is -1.0, expected `float` > 0.0"),
        ({"weight_decay": 1e300}, "weight_decay is 1e+300, expected `float` <= 1000000.0"),
        ({"optimizer": "lion"}, "optimizer is 'lion', expected one of 'adamw', 'sgd', 'adam'"),
        ({"amp": "float8"}, "amp is 'float8', expected one of None, 'bfloat16', 'float16'"),
        ({"ema": 1.0}, "ema is 1, with which an average never moves"),
        ({"lean": "on"}, "lean='on' is neither True, False nor a budget"),
        ({"strategy": "hed-only"}, "unknown strategy 'hed-only', did you mean 'head-only'?"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(
    changes: dict[str, Any], text: str, data: TrainingData
) -> None:
    with pytest.raises(FreezekitError) as error:
        train(replace(recipe(), **changes), data)
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"until": 0}, "until is 0, expected a number of epochs from 1, or None"),
        ({"until": -1}, "until is -1, expected"),
        ({"resume": True}, "resume goes on from a checkpoint: give checkpoint=FOLDER too"),
        ({"checkpoint": "/proc/x"}, "no checkpoint can be kept"),
        ({"metrics": "own.py:kb"}, "the metric 'own.py:kb'"),
    ],
)
def test_options_that_cannot_be_are_refused_before_the_training(
    options: dict[str, Any], text: str, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError) as error:
        train(recipe(), tmp_path / "no images", **options)
    assert text in str(error.value)


def test_both_spellings_of_a_schedule_are_one_recipe(photos: Path, tmp_path: Path) -> None:
    text = "head-only then full at 1ep"
    one = train(recipe("", schedule=text, epochs=2), photos, checkpoint=tmp_path, until=1)
    assert one.trial.recipe.strategy == "head-only"
    done = train(recipe("full", schedule=text, epochs=2), photos, checkpoint=tmp_path, resume=True)
    assert (done.trial.status, done.trial.resumed) == ("ok", 1)


def test_a_model_that_ignores_the_number_of_classes_is_refused(
    data: TrainingData, tmp_path: Path
) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def fixed(num_classes):\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.Flatten(), nn.Linear(64, 7))\n"
    )
    with pytest.raises(
        FreezekitError, match=r"an output of shape \(\d, 7\), expected \(batch, 3\)"
    ):
        train(recipe("full", model=f"{tmp_path}/net.py:fixed"), data)


def test_an_image_that_a_model_does_not_take_is_one_line(
    data: TrainingData, tmp_path: Path
) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def build(num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(5, num_classes))\n"
    )
    with pytest.raises(FreezekitError) as error:
        train(recipe("full", model=f"{tmp_path}/net.py:build"), data)
    assert len(str(error.value).splitlines()) == 1


def test_a_folder_with_a_checkpoint_is_not_overwritten(data: TrainingData, tmp_path: Path) -> None:
    train(recipe(epochs=1), data, checkpoint=tmp_path)
    with pytest.raises(TrainingError, match=r"holds a checkpoint of 1 epoch\(s\) already; resume"):
        train(recipe(epochs=1), data, checkpoint=tmp_path)


def test_a_training_that_is_stopped_before_it_goes_on_keeps_its_features(
    data: TrainingData, tmp_path: Path
) -> None:
    case, place = CASES["head"], tmp_path / "checkpoint"
    whole = train(case, data).trial
    train(case, data, checkpoint=place, until=case.epochs - 1)
    stopped = train(case, data, checkpoint=place, resume=True, deadline=0.0).trial
    assert (stopped.status, len(stopped.epochs)) == ("stopped", case.epochs - 1)
    found = train(case, data, checkpoint=place, resume=True).trial
    assert whole.epochs[-1].cached
    assert [epoch.cached for epoch in found.epochs] == [epoch.cached for epoch in whole.epochs]
