"""Features in a Trainer: what its data loader does to images is seen, and what cannot be cached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, default_collate
from transformers import Trainer

from freezekit import CacheError, ScheduleError
from freezekit.integrations.hugging_face import FreezeCallback
from tests.integrations.hugging_face_training import (
    BATCHES,
    IMAGES,
    LABELS,
    Pictures,
    Seeds,
    arguments,
    equal,
    fit,
    network,
    vit,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([Pictures()[i] for i in range(len(IMAGES))])


class Named(Dataset[Any]):
    """Samples whose keys are others than those that the model takes."""

    def __init__(self, image: str = "pixel_values", label: str = "label", **more: Any) -> None:
        self.image, self.label, self.more = image, label, more

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {self.image: IMAGES[index], self.label: int(LABELS[index]), **self.more}


def collating(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[list[Any]], Any]:
    def collate(samples: list[Any]) -> Any:
        batch = default_collate(samples)
        return {**batch, "pixel_values": change(batch["pixel_values"])}

    return collate


def renaming(samples: list[Any]) -> Any:
    batch = default_collate(samples)
    return {"pixel_values": batch["image"], "labels": batch["label"]}


def train(data: Any, folder: Path, text: str = "head-only", **options: Any) -> Trainer:
    callback = FreezeCallback(text)
    collate = options.pop("collate", None)
    cache = options.pop("cache", {})
    trainer = Trainer(
        vit(),
        arguments(folder, max_steps=2, **options),
        train_dataset=callback.features_of(data, **cache),
        data_collator=collate,
        callbacks=[callback],
    )
    trainer.train()
    return trainer


@pytest.mark.parametrize(
    "change",
    [
        lambda images: (images - 0.5) / 0.25,
        lambda images: images.flip(-1),
        lambda images: images.double(),
        lambda images: images.flip(-1) if torch.rand(()) < 0.3 else images,
    ],
)
def test_a_collate_function_that_changes_images_is_refused(change: Any, tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"collate changes images at 'pixel_values'.* in the data"):
        train(Pictures(), tmp_path, collate=collating(change))


def test_names_are_those_of_the_model(tmp_path: Path) -> None:
    data = Named("image")
    options = {"remove_unused_columns": False, "collate": renaming}
    with pytest.raises(CacheError, match="renaming moves the images at 'image' to 'pixel_values'"):
        train(data, tmp_path, **options)
    call = {"call": lambda model, batch: model(pixel_values=batch["image"])}
    models = [
        train(data, tmp_path, cache=call, **options).model,
        train(Named(), tmp_path).model,  # Trainer's own collate function renames "label"
        train(Pictures(), tmp_path).model,
    ]
    assert equal(models[0], models[2])
    assert equal(models[1], models[2])


def test_what_trainer_removes_is_not_collated(tmp_path: Path) -> None:
    more = {"mask": None, "file": object()}
    assert equal(train(Named(**more), tmp_path).model, train(Pictures(), tmp_path).model)
    with pytest.raises(CacheError, match=r"samples make no batch at 'mask'"):
        train(Named(**more), tmp_path, collate=renaming_nothing, remove_unused_columns=False)


def renaming_nothing(samples: list[Any]) -> Any:
    return default_collate([{k: s[k] for k in ("pixel_values", "label")} for s in samples])


def test_what_cannot_be_cached_is_said_at_once() -> None:
    callback = FreezeCallback("head-only")
    with pytest.raises(CacheError, match="Stream has no samples by index, such as an Iterable"):
        callback.features_of(Stream())
    with pytest.raises(CacheError, match="no option 'view', did you mean 'views'"):
        callback.features_of(Pictures(), view=3)  # type: ignore[call-arg]  # what is refused
    assert "until a Trainer that was given its FreezeCallback" in repr(
        callback.features_of(Pictures())
    )


def test_features_of_another_callback_are_refused(tmp_path: Path) -> None:
    features = FreezeCallback("head-only").features_of(Pictures())
    with pytest.raises(CacheError, match="of another FreezeCallback, which this Trainer was not"):
        fit(FreezeCallback("head-only"), tmp_path, data=features)


def test_a_second_trainer_begins_with_images(tmp_path: Path) -> None:
    callback = FreezeCallback("head-only")
    features = callback.features_of(Pictures())
    fit(callback, tmp_path, data=features, of=Trainer)
    assert features[0]["pixel_values"].dim() == 1
    args = arguments(tmp_path)
    second = Trainer(network(3), args, train_dataset=features, callbacks=[callback, Seeds()])
    losses = [second.evaluate(data)["eval_loss"] for data in (features, Pictures())]
    assert losses[0] == losses[1]
    assert features[0]["pixel_values"].dim() == 3
    second.train()
    expected, _ = fit(
        FreezeCallback("head-only"), tmp_path, model=network(3), of=Trainer, has_optimizer=False
    )
    assert equal(second.model, expected)


def test_phases_within_an_epoch_are_refused(tmp_path: Path) -> None:
    def follow(text: str, **options: Any) -> None:
        callback = FreezeCallback(text)
        fit(callback, tmp_path, data=callback.features_of(Pictures()), of=Trainer, **options)

    match = f"'full' begins at 50%, within an epoch of {BATCHES} step.* 'full at 2ep'"
    with pytest.raises(CacheError, match=match):
        follow("head-only then full at 50%")
    options = {"dataloader_num_workers": 1, "dataloader_persistent_workers": True}
    with pytest.raises(CacheError, match=r"dataloader_persistent_workers=True keeps workers"):
        follow("head-only then full at 1ep", **options)
    # What only freezes more leaves all features as they are.
    follow("first-n-stages:n=1 then first-n-stages:n=2 at 2step")


def test_data_without_a_length_need_times_in_steps(tmp_path: Path) -> None:
    for text in ("head-only then full at 50%", "head-only then full at 1.5ep"):
        with pytest.raises(ScheduleError, match=r"have no length.* 'full at 500step'"):
            fit(FreezeCallback(text), tmp_path, data=Stream(), of=Trainer, max_steps=4)
    callback = FreezeCallback("head-only then full at 2step")
    fit(callback, tmp_path, data=Stream(), of=Trainer, max_steps=4)
    assert callback.run is not None
    assert [done.step for done in callback.run.transitions] == [2]


def test_a_schedule_that_needs_a_sample_is_refused_without() -> None:
    with pytest.raises(
        ScheduleError, match=r"'plasticity' observes.*FreezeCallback\(\.\.\., sample"
    ):
        FreezeCallback("plasticity")
