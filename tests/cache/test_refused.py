"""What cannot be cached is refused with the reason; what has changed since is not taken."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from freezekit import CacheError, FreezeError, FreezePlan, freeze_
from freezekit.errors import SizeError
from tests.cache.test_cached_training import BATCH, SAMPLES, Branches, data


class Mixing(Branches):
    """Its stem takes the mean of the batch."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(self.mix(x))

    def __init__(self) -> None:
        super().__init__()

        class Mix(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return x - x.mean(0, keepdim=True)

        self.mix = Mix()


class Functional(nn.Module):
    """What is frozen is used by no call of a module that could be skipped."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(nn.functional.conv2d(x, self.conv.weight).mean((2, 3)))


class Random(Dataset[Any]):
    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.rand(3, 32, 32), index


class Sizes(Dataset[Any]):
    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.zeros(3, 32 + index, 32), index


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(())


def names(model: nn.Module, *prefixes: str) -> list[str]:
    return [name for name, _ in model.named_parameters() if name.startswith(prefixes)]


def live() -> tuple[nn.Module, FreezePlan]:
    model = Branches()
    return model, FreezePlan(names(model, "stem"), eval_modules=())


def test_statistics_that_live_are_refused() -> None:
    model, plan = live()
    with pytest.raises(CacheError, match="stem changes its statistics in each forward"):
        freeze_(model, plan).cache(data(), BATCH)


def test_dropout_in_the_prefix_is_refused() -> None:
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5)), nn.Flatten())
    model.append(nn.LazyLinear(2))
    model(data()[:2][0])
    plan = FreezePlan(["0.0.weight", "0.0.bias"], eval_modules=())
    with pytest.raises(CacheError, match="0 draws random numbers, such as dropout"):
        freeze_(model, plan).cache(data(), BATCH)


@pytest.mark.parametrize(
    ("model", "plan", "message"),
    [
        (Branches, "full", "no call of a module comes before all that is trained"),
        (Mixing, "head-only", "depends on the other samples of the batch"),
        (Functional, "head-only", "no call of a module comes before all that is trained"),
    ],
)
def test_a_model_without_a_prefix_of_its_own_is_refused(
    model: type[nn.Module], plan: str, message: str
) -> None:
    with pytest.raises(CacheError, match=message):
        freeze_(model(), plan).cache(data(), BATCH)


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        (Random(), {}, "sample 0 is another one when it is asked again: the data set augments"),
        (Sizes(), {}, "the images have different shapes"),
        (Stream(), {}, "the data set Stream has no samples by index"),
        (
            data(),
            {"limit": "1KiB"},
            "would take 384 KiB, 32 KiB a sample, and the limit is 1 KiB",
        ),
        (data(), {"image": 7}, "a sample is a tuple of Tensor, Tensor: no image is found"),
        (TensorDataset(torch.zeros(4)), {}, "no image is found"),
    ],
)
def test_a_data_set_that_does_not_fit_is_refused(
    dataset: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(CacheError, match=re.escape(message)):
        freeze_(Branches(), "head-only").cache(dataset, BATCH, **options)


def test_a_limit_that_is_no_size_is_refused() -> None:
    with pytest.raises(SizeError, match="'8gigs' is no size"):
        freeze_(Branches(), "head-only").cache(data(), BATCH, limit="8gigs")


def test_rows_of_what_has_changed_are_not_taken() -> None:
    model = torchvision.models.resnet18(num_classes=5)
    frozen = freeze_(model, "first-n-stages:n=2")
    optimizer = torch.optim.SGD(frozen.param_groups(0.1, all_phases=True))
    cached = frozen.cache(data(), BATCH)
    features, _ = next(iter(DataLoader(cached, BATCH)))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(state)
    model(features)  # the same values: as after a resume
    with torch.no_grad():
        model.layer1[0].conv1.weight.add_(1e-3)
    with pytest.raises(CacheError, match="frozen weights or statistics have changed"):
        model(features)
    model.load_state_dict(state)
    model(features)
    frozen.change_("first-n-stages:n=1", optimizer)
    with pytest.raises(
        CacheError, match="the features are those of 'layer2' frozen, and this is trained"
    ):
        model(features)
    frozen.change_("first-n-stages:n=3", optimizer)
    model(features)
    frozen.undo()
    assert "forward" not in vars(model)
    with pytest.raises(FreezeError, match="no longer in force"):
        frozen.cache(data(), BATCH)


def test_a_closed_cache_leaves_the_model_as_before() -> None:
    model = Branches()
    frozen = freeze_(model, "head-only")
    frozen.cache(data(), BATCH).close()
    assert "forward" not in vars(model)


def test_caches_of_one_boundary_take_the_place_of_one_another() -> None:
    model = torchvision.models.resnet18(num_classes=5)
    frozen = freeze_(model, "first-n-stages:n=2")
    optimizer = torch.optim.SGD(frozen.param_groups(0.1, all_phases=True))
    first, second = (frozen.cache(data(), BATCH) for _ in range(2))
    assert vars(model)["forward"].before is None
    rows = torch.stack([first[i][0] for i in range(BATCH)])
    assert torch.equal(rows, torch.stack([second[i][0] for i in range(BATCH)]))
    frozen.change_("first-n-stages:n=1", optimizer)
    frozen.cache(data(), BATCH)
    with pytest.raises(CacheError, match="the features are those of 'layer2' frozen"):
        model(rows)  # of the boundary before


def test_samples_that_make_no_batch_are_refused() -> None:
    class Odd(Dataset[Any]):
        def __len__(self) -> int:
            return SAMPLES

        def __getitem__(self, index: int) -> tuple[Tensor, Any]:
            return data()[index][0], slice(index)

    frozen = freeze_(Branches(), "head-only")
    assert frozen.cache(Odd(), BATCH)[3][1] == slice(3)  # nothing but images is needed
    with pytest.raises(CacheError, match="samples make no batch: default_collate"):
        frozen.cache(Odd(), BATCH, call=lambda model, batch: model(batch[0]))
