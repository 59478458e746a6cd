"""A training from a cache has the bits of one that computes the prefix in each epoch."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

from freezekit import freeze_
from tests.sampled import sampled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SAMPLES, BATCH, SIZE, CLASSES = 12, 4, 64, 5


class Branches(nn.Module):
    """A user's own: a skip around a stage, control flow, a parameter of the root, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.a = nn.ModuleList(nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU()) for _ in range(2))
        self.b = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.Dropout2d(0.1))
        self.c = nn.Sequential(
            nn.Conv2d(16, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.ReLU(inplace=True)
        )
        self.skip = nn.Conv2d(8, 16, 1, 2)
        self.scale = nn.Parameter(torch.ones(8, 1, 1))
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x) * self.scale
        for block in self.a:
            x = x + block(x)
        y = (self.c(self.b(x)) + self.skip(x)).mean((2, 3))
        return self.head(y), y


MODELS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: torchvision.models.resnet18(num_classes=CLASSES),
    "efficientnet_b0": lambda: torchvision.models.efficientnet_b0(num_classes=CLASSES),
    "vit_tiny": lambda: timm.create_model(
        "vit_tiny_patch16_224", num_classes=CLASSES, img_size=SIZE, proj_drop_rate=0.1
    ),
    "convnext_atto": lambda: timm.create_model("convnext_atto", num_classes=CLASSES),
    "own": Branches,
}
CASES = [
    ("resnet18", "head-only"),
    ("resnet18", "first-n-stages:n=2"),
    ("efficientnet_b0", "first-n-stages:n=3"),
    ("vit_tiny", "first-n-stages:n=6"),
    ("convnext_atto", "first-n-stages:n=0"),
    ("own", "head-only"),
    ("own", "by-name:regex='^(stem|scale|a|b)'"),
]


def data() -> TensorDataset:
    source = torch.Generator().manual_seed(0)
    images = torch.randn(SAMPLES, 3, SIZE, SIZE, generator=source)
    return TensorDataset(images, torch.randint(0, CLASSES, (SAMPLES,), generator=source))


def trained(
    model: nn.Module, groups: list[dict[str, Any]], dataset: Dataset[Any], workers: int = 0
) -> tuple[list[float], list[Tensor]]:
    """Train for two epochs, with a validation on images after each."""
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    images, _ = data()[:BATCH]
    torch.manual_seed(7)
    losses = []
    order = torch.Generator().manual_seed(1)
    loader = DataLoader(dataset, BATCH, shuffle=True, generator=order, num_workers=workers)
    for _ in range(2):
        model.train()
        for given, labels in loader:
            out = model(given)
            loss = functional.cross_entropy(out[0] if isinstance(out, tuple) else out, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        model.eval()
        with torch.no_grad():
            out = model(images)
        losses.append(float((out[0] if isinstance(out, tuple) else out).sum()))
    return losses, [p.detach().clone() for p in (*model.parameters(), *model.buffers())]


@pytest.mark.parametrize(
    ("name", "spec", "way"),
    [
        *sampled(((*case, "memory") for case in CASES), every=2),
        *sampled(((*case, "lean") for case in CASES[1:4]), every=3),
        *sampled(((*case, "folder with workers") for case in CASES[-2:]), every=2),
    ],
)
def test_losses_and_weights_are_those_of_a_training_without_cache(
    name: str, spec: str, way: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    made = MODELS[name]().train()
    with torch.no_grad():
        made(data()[:8][0])  # statistics that are not those of a new model
    found = []
    for is_cached in (False, True):
        model = copy.deepcopy(made)
        frozen = freeze_(model, spec, lean=way == "lean")
        dataset: Dataset[Any] = data()
        folder = tmp_path / "cache" if way.startswith("folder") else None
        if is_cached:
            dataset = frozen.cache(dataset, BATCH, folder=folder)
        workers = 2 if folder and is_cached else 0
        found.append(trained(model, frozen.param_groups(0.01), dataset, workers))
    (losses, weights), (cached_losses, cached_weights) = found
    assert losses == cached_losses
    for one, other in zip(weights, cached_weights, strict=True):
        assert torch.equal(one, other)


def test_the_prefix_is_not_computed_again() -> None:
    model = MODELS["resnet18"]()
    frozen = freeze_(model, "first-n-stages:n=2")
    cached = frozen.cache(data(), BATCH)
    calls = []
    model.layer2.register_forward_pre_hook(lambda *_: calls.append("layer2"))
    model.layer2[0].register_forward_pre_hook(lambda *_: calls.append("inside"))
    features, _ = next(iter(DataLoader(cached, BATCH)))
    assert features.shape[0] == BATCH
    # Zeros at the end tell them from features of other models in this process.
    assert features[:, 128 * 8 * 8 :].count_nonzero() == 0
    assert features[:, : 128 * 8 * 8].count_nonzero() > 0
    model(features)
    assert calls == ["layer2"]
    assert cached.filled.boundary == ("layer2",)
    assert cached.filled.total_bytes == SAMPLES * 4 * 128 * 8 * 8


def test_the_size_error_compares_the_same_samples() -> None:
    cached = freeze_(MODELS["resnet18"](), "first-n-stages:n=2").cache(data(), BATCH)
    assert cached.filled.size_error < 1e-5


def test_filling_leaves_the_model_as_it_was() -> None:
    model = MODELS["own"]().eval()
    frozen = freeze_(model, "first-n-stages:n=1")
    model.head.train()
    before = [t.clone() for t in (*model.parameters(), *model.buffers())]
    modes = [m.training for m in model.modules()]
    random = torch.get_rng_state()
    frozen.cache(data(), BATCH)
    assert torch.equal(random, torch.get_rng_state())
    assert modes == [m.training for m in model.modules()]
    for one, other in zip(before, (*model.parameters(), *model.buffers()), strict=True):
        assert torch.equal(one, other)


def test_a_copy_of_the_model_takes_rows_too() -> None:
    model = MODELS["own"]()
    cached = freeze_(model, "head-only").cache(data(), BATCH)
    features, _ = next(iter(DataLoader(cached, BATCH)))
    expected = model(features)[0]
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(features)[0], expected)
        with torch.no_grad():
            other.head.weight.add_(1)
        assert not torch.equal(other(features)[0], expected)
    assert torch.equal(model(features)[0], expected)


def test_what_is_not_the_image_stays() -> None:
    class Named(Dataset[Any]):
        def __len__(self) -> int:
            return SAMPLES

        def __getitem__(self, index: int) -> dict[str, Any]:
            return {"name": f"image {index}", "pixels": data()[index][0], "weight": index / 2}

    model = MODELS["own"]()
    frozen = freeze_(model, "head-only")
    cached = frozen.cache(Named(), BATCH, call=lambda model, batch: model(x=batch["pixels"]))
    assert {**cached[3], "pixels": 0} == {"name": "image 3", "pixels": 0, "weight": 1.5}
    rows = torch.stack([cached[i]["pixels"] for i in range(BATCH)])
    expected = model(torch.stack([data()[i][0] for i in range(BATCH)]))
    assert torch.equal(model(x=rows)[0], expected[0])


def test_views_are_drawn_once_and_taken_in_turn() -> None:
    class Augmented(Dataset[Any]):
        def __len__(self) -> int:
            return SAMPLES

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            return data()[index][0] + torch.randn(1), index

    model = MODELS["own"]()
    frozen = freeze_(model, "head-only")
    one, other = (frozen.cache(Augmented(), BATCH, views=3, seed=1) for _ in range(2))
    seen = []
    for epoch in range(4):
        one.set_epoch(epoch)
        other.set_epoch(epoch)
        assert torch.equal(one[5][0], other[5][0])
        assert one[5][1] == 5
        seen.append(one[5][0])
    assert torch.equal(seen[0], seen[3])
    assert len({tuple(view.tolist()) for view in seen}) == 3


def test_a_plan_that_freezes_more_goes_on() -> None:
    model = MODELS["resnet18"]()
    frozen = freeze_(model, "first-n-stages:n=1")
    cached = frozen.cache(data(), BATCH)
    features, _ = next(iter(DataLoader(cached, BATCH)))
    frozen.change_("first-n-stages:n=2")
    model(features).sum().backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert trained == {n for n, _ in model.named_parameters()} - frozen.plan.frozen
