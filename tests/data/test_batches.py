"""Batches depend on seed and epoch alone."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from freezekit import load_backbone
from freezekit.data.augmentation import training_preprocessing
from freezekit.data.batches import TensorSamples, train_loader, val_loader
from freezekit.data.loading import load_training_data
from freezekit.data.preprocessing import preprocessing_of
from freezekit.data.reading import no_interrupt_for_children
from freezekit.errors import DataError
from tests.data.image_files import put_images

if TYPE_CHECKING:
    from pathlib import Path

    from freezekit.data.training_data import TrainingData

OWN = preprocessing_of(load_backbone("timm:test_resnet", device="meta"), "", 16)
AUGMENTED = training_preprocessing(OWN)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    root = put_images(tmp_path_factory.mktemp("photos"), {"cat": 8, "dog": 8})
    return load_training_data(str(root), val_fraction=0.4)


def epoch(data: TrainingData, number: int = 1, **options: Any) -> list[torch.Tensor]:
    options = {"seed": 0, "batch_size": 4, **options}
    loader = train_loader(data, AUGMENTED, epoch=number, **options)
    return [torch.cat([images.flatten(1), labels[:, None]], 1) for images, labels in loader]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


def test_an_epoch_is_the_same_with_processes_and_after_anything_else(data: TrainingData) -> None:
    first = epoch(data)
    torch.rand(3)
    random.random()
    np.random.rand(3)
    assert same(epoch(data), first)
    assert same(epoch(data, workers=2), first)


def test_each_epoch_and_each_seed_draws_anew(data: TrainingData) -> None:
    found = [epoch(data), epoch(data, 2), epoch(data, seed=1)]
    rows = [torch.cat(batches).sum(1).tolist() for batches in found]
    assert not set(rows[0]) & set(rows[1])
    assert not set(rows[0]) & set(rows[2])


def test_what_is_drawn_depends_on_no_order(data: TrainingData) -> None:
    forwards, backwards = [], []
    samples = TensorSamples(data.train, AUGMENTED, seed=3, epoch=2)
    for index in range(4):
        forwards.append(samples[index][0])
    for index in reversed(range(4)):
        backwards.append(samples[index][0])
    assert all(map(torch.equal, forwards, reversed(backwards)))


def test_loaders_leave_the_generators_as_they_were(data: TrainingData) -> None:
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # type: ignore[index]  # a tuple
    epoch(data)
    list(val_loader(data, OWN, batch_size=4, workers=1))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2])  # type: ignore[index]  # a tuple


def test_all_three_generators_are_seeded(data: TrainingData) -> None:
    def draw(_: object) -> torch.Tensor:
        return torch.tensor([torch.rand(()).item(), random.random(), float(np.random.rand())])

    found = [TensorSamples(data.train, draw, epoch=n)[0][0] for n in (1, 1, 2)]
    assert torch.equal(found[0], found[1])
    assert not (found[0] == found[2]).any()


@pytest.mark.parametrize(
    ("batch_size", "sizes"), [(3, [3, 3, 3]), (4, [4, 4, 2]), (9, [9]), (1, [1] * 10), (99, [10])]
)
def test_a_last_batch_of_one_sample_is_left_out(
    batch_size: int, sizes: list[int], data: TrainingData
) -> None:
    assert len(data.train) == 10
    loader = train_loader(data, OWN, batch_size=batch_size, seed=0, epoch=1)
    assert [len(labels) for _, labels in loader] == sizes
    assert len(loader) == len(sizes)


def test_a_validation_has_all_samples_in_their_order(data: TrainingData) -> None:
    found = list(val_loader(data, OWN, batch_size=5))
    assert [len(labels) for _, labels in found] == [5, 1]
    assert torch.cat([labels for _, labels in found]).tolist() == list(data.val.labels)
    assert torch.equal(found[0][0][0], OWN(data.val[0][0]))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_has_gone_is_one_line(workers: int, tmp_path: Path) -> None:
    root = put_images(tmp_path, {"cat": 3, "dog": 3})
    data = load_training_data(str(root))
    for path in root.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"^cannot read the image '.*', which was there") as caught:
        list(train_loader(data, OWN, batch_size=2, seed=0, epoch=1, workers=workers))
    assert "\n" not in str(caught.value)


def test_none_is_the_evaluation_and_standard_keeps_its_size_and_its_numbers() -> None:
    assert training_preprocessing(OWN, "none") is OWN
    assert (AUGMENTED.shape, AUGMENTED.mean, AUGMENTED.std) == (OWN.shape, OWN.mean, OWN.std)
    assert AUGMENTED.text.startswith("random crop of 35 to 100 % to 16x16 (bilinear), random flip")
    from PIL import Image

    white = Image.new("L", (50, 30), 255)
    assert torch.allclose(AUGMENTED(white), OWN(white))  # colours are not changed


@pytest.mark.parametrize("text", ["torchvision:resnet18", "timm:test_vit", ""])
def test_every_source_of_a_preprocessing_is_augmented(text: str) -> None:
    from PIL import Image
    from torch import nn

    model = load_backbone(text, device="meta") if text else nn.Conv2d(1, 2, 3)
    own = preprocessing_of(model, text, 32)
    image = Image.effect_noise((40, 60), 50)
    assert training_preprocessing(own)(image).shape == own.shape
    assert len(own.mean) == len(own.std) == own.shape[0]


def test_the_signal_mask_is_given_back() -> None:
    import signal

    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with no_interrupt_for_children():
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
