"""Mixed precision, accumulation, averages of weights, checkpoints: as without a cache."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any

import pytest
import timm
import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset

from freezekit import CacheError, freeze_
from tests.cache.test_cached_training import BATCH, CLASSES, SIZE, data
from tests.sampled import sampled

if TYPE_CHECKING:
    from collections.abc import Callable

    Trained = tuple[list[float], list[Tensor]]

BFLOAT16 = {"device_type": "cpu", "dtype": torch.bfloat16}


def vit() -> nn.Module:
    return timm.create_model("test_vit", num_classes=CLASSES, img_size=SIZE, proj_drop_rate=0.1)


def resnet() -> nn.Module:
    return timm.create_model("test_resnet", num_classes=CLASSES)


def step(model: nn.Module, given: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(model(given).float(), labels)


def mixed_precision(model: nn.Module, groups: list[Any], dataset: Dataset[Any]) -> Trained:
    """Train with autocast and a scaler of gradients, which skips steps."""
    optimizer = torch.optim.AdamW(groups)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120, growth_interval=2)
    losses = []
    for given, labels in DataLoader(dataset, BATCH):
        with torch.autocast(**BFLOAT16):
            loss = step(model, given, labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, list(model.parameters())


def accumulation(model: nn.Module, groups: list[Any], dataset: Dataset[Any]) -> Trained:
    """Add up gradients, clip them, and compute activations again in the backward pass."""
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    losses = []
    for i, (given, labels) in enumerate(DataLoader(dataset, BATCH)):
        loss = step(model, given, labels)
        loss.backward()
        losses.append(loss.item())
        if i % 2:
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            optimizer.zero_grad()
    return losses, list(model.parameters())


def averages(model: nn.Module, groups: list[Any], dataset: Dataset[Any]) -> Trained:
    """Keep averages of weights, and validate with them on images."""
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    ema, swa = ModelEmaV3(model, decay=0.5), AveragedModel(model)
    losses = []
    for given, labels in DataLoader(dataset, BATCH):
        loss = step(model, given, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ema.update(model)
        swa.update_parameters(model)
        losses.append(loss.item())
    with torch.no_grad():
        losses += [each.eval()(data()[:2][0]).sum().item() for each in (ema.module, swa.module)]
    return losses, [*ema.module.parameters(), *swa.parameters()]


@pytest.mark.parametrize("train", [mixed_precision, accumulation, averages])
@pytest.mark.parametrize("make", sampled([vit, resnet], every=2))
def test_it_has_the_bits_of_a_training_without_cache(
    train: Callable[..., Trained], make: Callable[[], nn.Module]
) -> None:
    torch.manual_seed(0)
    made = make().train()
    if train is accumulation:
        made.set_grad_checkpointing()  # type: ignore[operator]  # of timm's models
    with torch.no_grad():
        made(data()[:8][0])  # statistics that are not those of a new model
    found = []
    for is_cached in (False, True):
        model = copy.deepcopy(made)
        frozen = freeze_(model, "first-n-stages:n=1")
        dataset: Dataset[Any] = data()
        if is_cached:
            with torch.autocast(**BFLOAT16, enabled=train is mixed_precision):
                dataset = frozen.cache(dataset, BATCH)
            assert dataset[0][0].dim() == 1
        model.train()
        torch.manual_seed(7)
        found.append(train(model, frozen.param_groups(0.01), dataset))
    (losses, weights), (cached_losses, cached_weights) = found
    assert losses == cached_losses
    for one, other in zip(weights, cached_weights, strict=True):
        assert torch.equal(one, other)


def test_features_have_the_precision_of_autocast() -> None:
    frozen = freeze_(vit(), "first-n-stages:n=1")
    model = frozen.backbone.model
    with torch.autocast(**BFLOAT16):
        cached = frozen.cache(data(), BATCH)
    features, _ = next(iter(DataLoader(cached, BATCH)))
    message = "autocast is off, and was torch.bfloat16 when the cache was filled; call"
    with pytest.raises(CacheError, match=re.escape(message)):
        model(features)
    with torch.autocast(**BFLOAT16):
        model(features)


def test_a_model_in_channels_last_is_filled_as_it_is_trained() -> None:
    model = resnet().to(memory_format=torch.channels_last)
    frozen = freeze_(model, "first-n-stages:n=1")

    def call(model: nn.Module, batch: Any) -> Tensor:
        image = batch[0]
        is_image = image.dim() == 4
        return model(image.to(memory_format=torch.channels_last) if is_image else image)

    cached = frozen.cache(data(), BATCH, call=call)
    model.train()
    batch = next(iter(DataLoader(data(), BATCH)))
    rows = next(iter(DataLoader(cached, BATCH)))
    assert torch.equal(call(model, rows), call(model, batch))
