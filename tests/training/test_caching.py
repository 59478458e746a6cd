"""Where images are cached, where they are not, and that a validation on features has the bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from freezekit import Recipe, train
from freezekit.data.batches import TensorSamples, val_loader
from freezekit.plugins.registering import default_registry
from freezekit.training.caching import PrefixCaches
from freezekit.training.trainer import Trainer
from tests.training.trainings import REFREEZES, RESNET, VIT, learnt, recipe

if TYPE_CHECKING:
    from pathlib import Path

    from freezekit.data.training_data import TrainingData

MODELS = [
    *(("timm:" + name, spec) for name in ("test_convnext", "test_efficientnet", "test_mambaout")
      for spec in ("head-only",)),
    (RESNET, "last-n-stages:n=2"),
    (VIT, "last-n-stages:n=2"),
    ("torchvision:shufflenet_v2_x0_5", "head-only"),
]  # fmt: skip


def prepared(case: Recipe, data: TrainingData) -> tuple[Trainer, PrefixCaches, TensorSamples]:
    trainer = Trainer(case, 1e-3, len(data.classes), 3, default_registry())
    train_samples, val_samples = (
        TensorSamples(samples, trainer.preprocessing) for samples in (data.train, data.val)
    )
    trainer.follow(torch.stack([train_samples[0][0]]))
    caches = PrefixCaches(trainer, train_samples, val_samples, may_cache_train=True)
    return trainer, caches, val_samples


@pytest.mark.parametrize(("model", "spec"), MODELS)
def test_a_validation_on_features_has_the_bits_of_one_on_images(
    model: str, spec: str, data: TrainingData
) -> None:
    case = recipe(spec, model=model, batch_size=2, image_size=64)
    trainer, caches, _ = prepared(case, data)
    loader = val_loader(data, trainer.preprocessing, batch_size=2)
    trainer.model.eval()
    on_images = [trainer.logits(images) for images, _ in loader]
    caches.fill_val(100)
    assert caches.val is not None, caches.notes
    batches = list(caches.val_batches(loader))
    assert all(is_cached for _, _, is_cached in batches)
    assert all(
        torch.equal(expected, trainer.logits(rows))
        for expected, (rows, _, _) in zip(on_images, batches, strict=True)
    )


OTHER_IN_EVAL = """
import timm
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.body, self.more = nn.Conv2d(3, 4, 8, 8), nn.Conv2d(3, 4, 8, 8)
        self.head = nn.Linear(4, num_classes)

    def forward(self, x):
        y = self.body(x)
        if not self.training:
            y = y + self.more(x)
        return self.head(y.mean((2, 3)))
"""


def test_a_model_that_does_something_else_in_eval_mode_is_not_cached(
    data: TrainingData, tmp_path: Path
) -> None:
    (tmp_path / "other.py").write_text(OTHER_IN_EVAL)
    case = recipe("by-name:glob=body.*", model=f"{tmp_path}/other.py:Net", batch_size=1)
    trial = train(case, data).trial
    assert learnt(trial) == learnt(train(recipe(
        "by-name:glob=body.*", model=f"{tmp_path}/other.py:Net", batch_size=1, cache="off"
    ), data).trial)  # fmt: skip
    assert any("in eval mode the model gives other bits" in note for note in trial.notes)


OWN = """
import torch

class Augmented:
    labels = [0, 1] * 12
    classes = ["a", "b"]
    def __init__(self, noise):
        self.noise = noise
    def __len__(self):
        return 24
    def __getitem__(self, index):
        image = torch.full((3, 32, 32), index / 24)
        return image + self.noise * torch.rand(3, 32, 32), index % 2

def augmented():
    return Augmented(1.0), Augmented(0.0)

def plain():
    return Augmented(0.0), Augmented(0.0)
"""


@pytest.mark.parametrize("name", ["augmented", "plain"])
def test_a_data_set_that_augments_by_itself_is_not_cached(name: str, tmp_path: Path) -> None:
    (tmp_path / "own_data.py").write_text(OWN)
    case = recipe(model=VIT, epochs=5)
    trial = train(case, f"{tmp_path}/own_data.py:{name}").trial
    uncached = train(recipe(model=VIT, epochs=5, cache="off"), f"{tmp_path}/own_data.py:{name}")
    assert learnt(trial) == learnt(uncached.trial)
    is_noted = any("another image for the same index" in note for note in trial.notes)
    assert (trial.epochs[0].cached, is_noted) == (
        (False, True) if name == "augmented" else (True, False)
    )


def test_few_images_are_not_cached(data: TrainingData) -> None:
    assert not any(e.cached for e in train(recipe(model=VIT, epochs=2), data).trial.epochs)


def test_averages_under_a_schedule_are_validated_on_images(data: TrainingData) -> None:
    case = recipe("last-n-stages:n=3", model=VIT, schedule=REFREEZES, ema=0.9, batch_size=1)
    _, caches, _ = prepared(case, data)
    caches.fill_val(100)
    assert caches.val is None


def test_memory_that_is_too_small_is_noted(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("freezekit.training.caching.MEMORY_SHARE", 1e-9)
    trial = train(recipe(model=VIT), data).trial
    assert any("the limit is" in note for note in trial.notes)
    assert not any(epoch.cached for epoch in trial.epochs)
