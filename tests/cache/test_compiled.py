"""A compiled model takes features: the rest is compiled, and stale features are still refused."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch._dynamo.utils import counters
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from freezekit import CacheError, freeze_
from tests.cache.test_cached_training import BATCH, CLASSES, data


@pytest.mark.slow
def test_a_compiled_model_trains_on_features_with_the_same_bits() -> None:
    torch.manual_seed(0)
    made = timm.create_model("test_resnet", num_classes=CLASSES).train()
    losses = []
    for is_cached in (False, True):
        torch._dynamo.reset()
        counters.clear()
        model = copy.deepcopy(made)
        frozen = freeze_(model, "first-n-stages:n=2")
        dataset: Dataset[object] = frozen.cache(data(), BATCH) if is_cached else data()
        compiled = torch.compile(model, backend="aot_eager")
        optimizer = torch.optim.SGD(frozen.param_groups(0.01), momentum=0.9)
        found = []
        for _ in range(2):
            for given, labels in DataLoader(dataset, BATCH):
                loss = functional.cross_entropy(compiled(given), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                found.append(loss.item())
        losses.append(found)
        assert counters["stats"]["unique_graphs"] == 1  # for all steps
    assert losses[0] == losses[1]
    kept = model.layer1[0].conv1.weight
    with torch.no_grad():
        kept.add_(1)
    with pytest.raises(CacheError, match="have changed since the cache was filled"):
        compiled(given)
    torch._dynamo.reset()
