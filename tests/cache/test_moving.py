"""A cache follows the plan through a schedule: other boundaries, the same training."""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from freezekit import CacheError, FreezekitWarning, Frozen, freeze_
from tests.cache.test_cached_training import BATCH, CLASSES, SIZE, Branches, data
from tests.sampled import exhaustive

if TYPE_CHECKING:
    from pathlib import Path

MOVING = (
    "first-n-stages:n=2 then first-n-stages:n=1 at 1ep then first-n-stages:n=2 at 2ep "
    "then head-only at 3ep then full at 4ep then first-n-stages:n=1 at 5ep"
)
"""Earlier, later, later still, nowhere, and back."""


def vit() -> nn.Module:
    return timm.create_model("test_vit", num_classes=CLASSES, img_size=SIZE, proj_drop_rate=0.1)


def resnet() -> nn.Module:
    return timm.create_model("test_resnet", num_classes=CLASSES)


def epochs(
    model: nn.Module, frozen: Frozen, dataset: Dataset[Any], schedule: str, workers: int = 0
) -> tuple[list[float], list[Tensor], list[int]]:
    """Train through a schedule; return losses, final tensors, and the rank of what was read."""
    optimizer = torch.optim.SGD(frozen.param_groups(0.01, all_phases=schedule), momentum=0.9)
    run = frozen.follow(schedule, optimizer, epochs=6)
    loader = DataLoader(
        dataset,
        BATCH,
        shuffle=True,
        generator=torch.Generator().manual_seed(1),
        num_workers=workers,
    )
    torch.manual_seed(7)
    losses, dims = [], []
    for _ in range(6):
        model.train()
        for given, labels in loader:
            out = model(given)
            loss = functional.cross_entropy(out, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.step()
            losses.append(loss.item())
        dims.append(given.dim())
        run.epoch({"loss": losses[-1]})
    return losses, [t.detach().clone() for t in (*model.parameters(), *model.buffers())], dims


@pytest.mark.parametrize(
    ("make", "way"),
    [
        (vit, "memory"),
        (resnet, "folder with workers"),
        exhaustive((vit, "folder with workers")),
        exhaustive((resnet, "memory")),
    ],
)
def test_a_training_through_a_schedule_has_the_bits_of_one_without_cache(
    make: Any, way: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    made = make().train()
    with torch.no_grad():
        made(data()[:8][0])  # statistics that are not those of a new model
    found = []
    for is_cached in (False, True):
        model = copy.deepcopy(made)
        frozen = freeze_(model, "first-n-stages:n=2")
        dataset: Dataset[Any] = data()
        if is_cached:
            folder = tmp_path if way.startswith("folder") else None
            dataset = frozen.cache(dataset, BATCH, folder=folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FreezekitWarning)
            found.append(epochs(model, frozen, dataset, MOVING, 2 if way != "memory" else 0))
    (losses, weights, dims), (cached_losses, cached_weights, cached_dims) = found
    assert dims == [4] * 6
    assert cached_dims == [2, 2, 2, 2, 4, 2]
    assert losses == cached_losses
    for one, other in zip(weights, cached_weights, strict=True):
        assert torch.equal(one, other)


def test_features_of_a_later_boundary_come_from_those_of_the_earlier() -> None:
    model = resnet()
    frozen = freeze_(model, "first-n-stages:n=1")
    optimizer = torch.optim.SGD(frozen.param_groups(0.01, all_phases=True))
    cached = frozen.cache(data(), BATCH)
    seen: list[str] = []
    for name in ("layer1", "layer2"):
        inside = getattr(model, name)[0]  # a stage itself is called, and skipped, in both
        inside.register_forward_pre_hook(lambda *_, name=name: seen.append(name))
    frozen.change_("first-n-stages:n=3", optimizer)
    assert seen.count("layer2") - seen.count("layer1") == len(cached) // BATCH
    assert cached.filled.boundary == ("layer3",)
    whole = freeze_(copy.deepcopy(model), "first-n-stages:n=3", thaw=True).cache(data(), BATCH)
    for index in range(len(cached)):
        assert torch.equal(cached[index][0][: whole[index][0].numel()], whole[index][0])


def test_the_boundary_is_dropped_where_that_is_asked_for() -> None:
    model = resnet()
    frozen = freeze_(model, "first-n-stages:n=2")
    optimizer = torch.optim.SGD(frozen.param_groups(0.01, all_phases=True))
    cached = frozen.cache(data(), BATCH, on_thaw="drop")
    frozen.change_("first-n-stages:n=3", optimizer)
    assert cached[0][0].dim() == 1  # still right
    with pytest.warns(FreezekitWarning, match=r"samples have images again .*: on_thaw is 'drop'"):
        frozen.change_("first-n-stages:n=1", optimizer)
    assert torch.equal(cached[0][0], data()[0][0])
    assert not cached.has_features
    with pytest.raises(CacheError, match="samples have images"):
        _ = cached.filled
    assert "images" in repr(cached)


def test_a_boundary_that_has_no_room_is_dropped() -> None:
    model = resnet()
    frozen = freeze_(model, "head-only")
    optimizer = torch.optim.SGD(frozen.param_groups(0.01, all_phases=True))
    cached = frozen.cache(data(), BATCH, limit="100KiB")
    with pytest.warns(FreezekitWarning, match=r"images again .*: the cache would take .* 100 KiB"):
        frozen.change_("first-n-stages:n=0", optimizer)
    assert torch.equal(cached[0][0], data()[0][0])
    frozen.change_("head-only", optimizer)
    assert cached[0][0].dim() == 1


def test_features_of_another_boundary_are_never_taken_for_those_of_this_one() -> None:
    model = vit()  # all its blocks give features of one size
    frozen = freeze_(model, "first-n-stages:n=2")
    optimizer = torch.optim.SGD(frozen.param_groups(0.01, all_phases=True))
    cached = frozen.cache(data(), BATCH)
    before, _ = next(iter(DataLoader(cached, BATCH)))
    frozen.change_("first-n-stages:n=1", optimizer)
    after, _ = next(iter(DataLoader(cached, BATCH)))
    model(after)
    with pytest.raises(CacheError, match="they were read before the plan changed"):
        model(before)
    frozen.change_("first-n-stages:n=2", optimizer)
    model(after)
    model(before)


def test_workers_that_persist_are_told_to_begin_anew() -> None:
    model = resnet()
    frozen = freeze_(model, "first-n-stages:n=2")
    optimizer = torch.optim.SGD(frozen.param_groups(0.01, all_phases=True))
    cached = frozen.cache(data(), BATCH)
    loader = DataLoader(cached, BATCH, num_workers=1, persistent_workers=True)
    for features, _ in loader:
        model(features)
    frozen.change_("first-n-stages:n=1", optimizer)
    with pytest.raises(CacheError, match="the plan has changed since this data loader began"):
        next(iter(loader))


def test_workers_that_persist_see_the_epoch() -> None:
    class Augmented(Dataset[Any]):
        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> Tensor:
            return data()[index][0] + torch.randn(1)

    cached = freeze_(Branches(), "head-only").cache(Augmented(), BATCH, views=2)
    loader = DataLoader(cached, BATCH, num_workers=1, persistent_workers=True)
    seen = []
    for epoch in range(3):
        cached.set_epoch(epoch)
        seen.append(torch.cat(list(loader)))
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[1])
