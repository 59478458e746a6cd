"""Features that are not those of the model or of the data are never taken for them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from freezekit import CacheError, freeze_
from tests.cache.test_cached_training import BATCH, CLASSES, SAMPLES, SIZE, data

if TYPE_CHECKING:
    from collections.abc import Callable

STALE = "have changed since the cache was filled"


class Net(nn.Module):
    """A stem and a body that are frozen, with a statistic of its own, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.register_buffer("steps", torch.zeros(()))  # it changes, and no feature needs it
        self.head = nn.Linear(8, CLASSES)

    def features(self, x: Tensor) -> Tensor:
        return self.body(self.stem(x - self.mean))

    def forward(self, x: Tensor) -> Any:
        return self.head(self.features(x).mean((2, 3)))


def batch_of(dataset: Dataset[Any]) -> Tensor:
    features, _ = next(iter(DataLoader(dataset, BATCH)))
    return features


def by_data(model: Net) -> None:
    model.stem[0].weight.data = model.stem[0].weight.data * 2


def by_assign(model: Net) -> None:
    state = {name: value + 0.1 for name, value in model.state_dict().items()}
    model.load_state_dict(state, assign=True)
    for parameter in (*model.stem.parameters(), *model.body.parameters()):
        parameter.requires_grad = False


def by_module(model: Net) -> None:
    model.stem = Net().stem.requires_grad_(False)


def by_buffer(model: Net) -> None:
    model.stem[1].running_mean = torch.ones(8)


def by_own_buffer(model: Net) -> None:
    model.mean.add_(1)


@pytest.mark.parametrize("change", [by_data, by_assign, by_module, by_buffer, by_own_buffer])
def test_what_features_depend_on_is_watched(change: Callable[[Net], None]) -> None:
    model = Net()
    cached = freeze_(model, "head-only").cache(data(), BATCH)
    features = batch_of(cached)
    model.steps.add_(1)
    model(features)
    change(model)
    with pytest.raises(CacheError, match=STALE):
        model(features)


def test_features_stay_stale_when_another_cache_is_filled() -> None:
    model = Net()
    frozen = freeze_(model, "head-only")
    features = batch_of(frozen.cache(data(), BATCH))
    model.load_state_dict(Net().state_dict())
    again = frozen.cache(data(), BATCH)
    with pytest.raises(CacheError, match=STALE):
        model(features)
    model(batch_of(again))


def test_features_of_another_model_are_refused() -> None:
    one, other = Net(), Net()
    features = batch_of(freeze_(one, "head-only").cache(data(), BATCH))
    freeze_(other, "head-only").cache(data(), BATCH)
    with pytest.raises(CacheError, match="these are no features of its frozen part"):
        other(features)


def test_a_flag_set_by_hand_is_told() -> None:
    model = Net()
    cached = freeze_(model, "head-only").cache(data(), BATCH)
    model.body.requires_grad_(True)
    with pytest.raises(CacheError, match=r"'body.0.bias'.* requires a gradient since"):
        model(batch_of(cached))


class Labelled(Dataset[Any]):
    """Images that are the same, and labels that are not."""

    def __init__(self, label: Callable[[], int]) -> None:
        self.label = label

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return data()[index][0], self.label()


def test_random_labels_are_refused() -> None:
    dataset = Labelled(lambda: int(torch.randint(100, ())))
    with pytest.raises(CacheError, match="the data set augments at random"):
        freeze_(Net(), "head-only").cache(dataset, BATCH)


def test_an_augmentation_that_is_rarely_on_is_refused() -> None:
    dataset = Labelled(lambda: int(torch.rand(()) < 1e-6))
    frozen = freeze_(Net(), "head-only")
    with pytest.raises(CacheError, match="sample 0 draws random numbers: the data set augments"):
        frozen.cache(dataset, BATCH)
    assert len(frozen.cache(dataset, BATCH, data_version="1")) == SAMPLES


@pytest.mark.parametrize("views", [1, 2])
def test_a_folder_of_other_labels_or_code_is_refused(tmp_path: Path, views: int) -> None:
    images, _ = data()[:SAMPLES]
    zeros, ones = (TensorDataset(images, torch.full((SAMPLES,), n)) for n in (0, 1))
    model = Net()
    frozen = freeze_(model, "head-only")
    folder = tmp_path / "a"
    frozen.cache(zeros, BATCH, folder=folder, views=views)
    frozen.cache(zeros, BATCH, folder=folder, views=views)
    with pytest.raises(CacheError, match="of other samples, labels or transforms"):
        frozen.cache(ones, BATCH, folder=folder, views=views)
    vouched = {"folder": tmp_path / "vouched for", "views": views, "data_version": "mine"}
    frozen.cache(zeros, BATCH, **vouched)
    with pytest.raises(CacheError, match="is not what the data set and the model give now"):
        frozen.cache(ones, BATCH, **vouched)
    frozen.undo()
    other = Net()
    other.stem[2] = nn.Tanh()
    other.load_state_dict(model.state_dict())
    with pytest.raises(CacheError, match="is not what the data set and the model give now"):
        freeze_(other, "head-only").cache(zeros, BATCH, folder=folder, views=views)


def test_a_call_that_prepares_images_is_refused() -> None:
    frozen = freeze_(Net(), "head-only")
    for call in (lambda m, b: m(b[0] / 2), lambda m, b: m(2 * b[0])):
        with pytest.raises(CacheError, match="was not given the features as they are"):
            frozen.cache(data(), BATCH, call=call)
    with pytest.raises(CacheError, match=r"was not given the features as they are \(RuntimeError"):
        frozen.cache(data(), BATCH, call=lambda m, b: m(b[0].to(memory_format=torch.channels_last)))
    masks = TensorDataset(torch.rand(SAMPLES, 1, SIZE, SIZE), *data().tensors)
    with pytest.raises(CacheError, match="Say where that is, such as image=1"):
        frozen.cache(masks, BATCH, call=lambda m, b: m(b[1]))
    assert frozen.cache(masks, BATCH, image=1, call=lambda m, b: m(b[1]))[0][1].dim() == 1


class Padded(Net):
    """It leaves out what is padding, as it sees in the image."""

    def forward(self, x: Tensor) -> Tensor:
        kept = nn.functional.max_pool2d((x.abs().sum(1, keepdim=True) != 0).float(), 4)
        found = self.features(x) * kept
        return self.head(found.sum((2, 3)) / kept.sum((2, 3)).clamp(min=1))


class Scaled(Net):
    """It takes another way for large images."""

    def forward(self, x: Tensor) -> Tensor:
        found = self.features(x).mean((2, 3))
        return self.head(found * 2 if x.max() > 50 else found)


class Coded(Net):
    """It also returns numbers that are no floats, made in passing."""

    def forward(self, x: Tensor) -> Any:
        found = self.features(x)
        return self.head(found.mean((2, 3))), x.mean((1, 2, 3)) < 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Padded, "what is trained takes the images themselves"),
        (Scaled, "what is trained takes the images themselves"),
        (Coded, "the model gives other outputs on features than on images"),
    ],
)
def test_a_rest_that_looks_at_the_images_is_refused(make: type[Net], message: str) -> None:
    with pytest.raises(CacheError, match=message):
        freeze_(make(), "head-only").cache(data(), BATCH)


class Halves(Net):
    """It runs both halves of an image, all first halves before all second ones."""

    def forward(self, x: Tensor) -> Tensor:
        found = self.features(torch.cat(x.chunk(2, 2))).mean((2, 3))
        return self.head(torch.stack(found.chunk(2), 1).mean(1))


class Centred(Net):
    """A sample sees the mean of its batch."""

    def features(self, x: Tensor) -> Tensor:
        return super().features(x - x.mean(0))


def test_images_that_are_alike_prove_nothing_wrong() -> None:
    black = TensorDataset(torch.zeros(4, 3, SIZE, SIZE), torch.zeros(4).long())
    alike = torch.utils.data.ConcatDataset([black, data(), black])
    with pytest.raises(CacheError, match="depends on the other samples of the batch"):
        freeze_(Centred(), "head-only").cache(black, BATCH)
    model = Halves()
    cached = freeze_(model, "head-only").cache(alike, BATCH)
    for rows, images in zip(DataLoader(cached, BATCH), DataLoader(alike, BATCH), strict=True):
        assert torch.equal(model(rows[0]), model(images[0]))


class Conditioned(Net):
    """Its second input is as wide as a row of its first."""

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)) + condition.mean())


def test_another_input_is_not_taken_for_features() -> None:
    width = 8 * (SIZE // 4) ** 2
    images, labels = data()[:SAMPLES]
    dataset = TensorDataset(images, torch.rand(SAMPLES, width), labels)
    model = Conditioned()
    frozen = freeze_(model, "head-only", example_input=dataset[:2][:2])
    cached = frozen.cache(dataset, BATCH, call=lambda m, b: m(b[0], b[1]))
    model.eval()
    rows, condition, _ = next(iter(DataLoader(cached, BATCH)))
    expected = model(images[:BATCH], condition)  # on images, with rows attached
    assert torch.equal(model(rows, condition), expected)
    assert torch.equal(model(condition=condition, x=rows), expected)


def test_a_folder_is_the_same_from_another_working_directory(tmp_path: Path) -> None:
    before = Path.cwd()
    try:
        os.chdir(tmp_path)
        cached = freeze_(Net(), "head-only").cache(data(), BATCH, folder="features")
        os.chdir(before)
        assert cached[0][0].dim() == 1
    finally:
        os.chdir(before)


def test_a_batch_size_larger_than_the_data_fills_no_more() -> None:
    cached = freeze_(Net(), "head-only").cache(data(), 10**9)
    assert cached.filled.batch_size == SAMPLES


def test_a_sample_that_cannot_be_read_is_named() -> None:
    class Ends(Dataset[Any]):
        def __len__(self) -> int:
            return 100

        def __getitem__(self, index: int) -> Tensor:
            if index == 17:
                raise OSError("a broken file")
            return data()[index % SAMPLES][0]

    with pytest.raises(OSError, match="a broken file") as raised:
        freeze_(Net(), "head-only").cache(Ends(), BATCH)
    assert raised.value.__notes__ == ["This was sample 17, while a cache was filled."]


def test_attributes_of_the_data_set_stay() -> None:
    dataset = data()
    dataset.targets = [1, 2, 3]  # type: ignore[attr-defined]  # as torchvision's
    cached = freeze_(Net(), "head-only").cache(dataset, BATCH)
    assert cached.targets == [1, 2, 3]
    with pytest.raises(AttributeError):
        _ = cached.nothing


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 8}, "limit is 8, expected a text"),
        ({"folder": 3}, "folder is 3, expected a path"),
        ({"folder": ""}, "folder is '', expected a path"),
        ({"call": 3}, "call is 3, expected a function of model and batch"),
        ({"workers": -1}, "workers is -1, expected a whole number of at least 0"),
        ({"seed": "a"}, "seed is 'a', expected a whole number"),
        ({"data_version": 2}, "data_version is 2, expected a text"),
        ({"on_thaw": "no"}, "on_thaw is 'no', expected 'refill' or 'drop'"),
        ({"call": lambda *_: None}, "call= did not call the model"),
    ],
)
def test_arguments_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CacheError, match=re.escape(message)):
        freeze_(Net(), "head-only").cache(data(), BATCH, **options)


def test_an_image_of_whole_numbers_is_told() -> None:
    images = TensorDataset(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.zeros(4))
    with pytest.raises(CacheError, match=r"at 0, is torch.uint8; let the data set give a float"):
        freeze_(Net(), "head-only").cache(images, BATCH, image=0)
