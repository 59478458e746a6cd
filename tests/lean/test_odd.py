"""Models that few write: what lean must not do to them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn import functional as F  # noqa: N812  # as everybody calls it

from freezekit.lean import Lean
from freezekit.memory.tracker import StorageTracker

pytestmark = pytest.mark.usefixtures("core")
LAST = torch.channels_last


def twins(model):
    """Return a model and a lean copy of it."""
    lean = copy.deepcopy(model)
    Lean(lean).attach()
    return model, lean


def frozen(layer):
    return layer.requires_grad_(False)


def saved_bytes(model, x):
    with StorageTracker("cpu") as held:
        before = held.current_bytes
        graph = model(x).grad_fn
        after = held.current_bytes
    assert graph is not None
    return after - before


def peak_bytes(model, x):
    with StorageTracker("cpu") as held:
        model(x).sum().backward()
    return held.peak_bytes


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 8, 1, bias=False),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ConvTranspose2d(8, 8, 1, bias=False),
    ],
    ids=str,
)
@pytest.mark.parametrize("of_weight", [LAST, torch.contiguous_format], ids=str)
@pytest.mark.parametrize("of_image", [LAST, torch.contiguous_format], ids=str)
@pytest.mark.parametrize("size", [(64, 64), (1, 1), (1, 7)], ids=str)
def test_a_layer_and_an_image_in_layouts_of_their_own(layer, of_weight, of_image, size):
    stock, lean = twins(frozen(copy.deepcopy(layer).to(memory_format=of_weight)))
    x = torch.randn(2, 8, *size).to(memory_format=of_image)
    grads = []
    for model in (stock, nn.Sequential(lean)):
        ours = x.clone().requires_grad_()
        model(ours).sum().backward()
        grads.append(ours.grad)
    assert torch.equal(*grads)


class Loop(nn.Module):
    """Refines, and lets only the last round be trained."""

    def __init__(self, rounds):
        super().__init__()
        self.layer = nn.Conv2d(8, 8, 3, padding=1)
        self.rounds = rounds

    def forward(self, x):
        for _ in range(self.rounds):
            x = F.relu(self.layer(x)).detach()
        return self.layer(x)


def test_what_no_graph_needs_any_more_is_not_held():
    x = torch.randn(1, 8, 32, 32)
    few, many = (peak_bytes(twins(Loop(rounds))[1], x) for rounds in (5, 50))
    assert many <= few + 1000


@pytest.mark.parametrize(
    "layer", [nn.ReLU(), nn.LeakyReLU(), nn.Hardsigmoid(), nn.ReLU6()], ids=str
)
def test_many_gradients_at_once(layer):
    stock, lean = twins(nn.Sequential(nn.Conv2d(3, 8, 3), layer, frozen(nn.Conv2d(8, 8, 3))))
    x = torch.randn(2, 3, 32, 32)
    found = []
    for model in (stock, lean):
        y = model(x)
        many = torch.randn(3, *y.shape, generator=torch.Generator().manual_seed(1))
        found += torch.autograd.grad(y, model[0].weight, many, is_grads_batched=True)
    assert torch.equal(*found)


class Forward(nn.Module):
    """Differentiates forward, inside."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 8, 3)

    def forward(self, x):
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(x, torch.ones_like(x))
            return forward_ad.unpack_dual(F.relu(self.layer(dual))).tangent


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's own, of torch.jit.script
def test_forward_mode_inside_a_model():
    stock, lean = twins(Forward())
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(stock(x), lean(x))


class Detached(nn.Module):
    """Takes a product out of its graph."""

    def __init__(self):
        super().__init__()
        self.before, self.after = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)

    def forward(self, x):
        y = self.before(x)
        y = y * torch.sigmoid(y)
        return self.after(y.detach_())


class Indices(nn.Module):
    """Uses the places of the largest values itself."""

    def __init__(self):
        super().__init__()
        self.before, self.after = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        y = F.relu(self.before(x))
        pooled, indices = F.max_pool2d_with_indices(y, 2)
        return self.after(y) + F.interpolate(self.after(F.max_unpool2d(pooled, indices, 2)), 16)


@pytest.mark.parametrize("model", [Detached(), Indices()], ids=lambda m: type(m).__name__)
def test_no_more_is_saved_than_in_stock(model):
    stock, lean = twins(model)
    x = torch.randn(2, 3, 16, 16)
    assert saved_bytes(lean, x) <= saved_bytes(stock, x)


@pytest.mark.parametrize("layer", [nn.SiLU(), nn.GELU(), nn.ReLU()], ids=str)
def test_shapes_alone(layer):
    _, lean = twins(nn.Sequential(nn.Conv2d(3, 8, 3), layer, nn.Conv2d(8, 8, 3)).to("meta"))
    lean(torch.randn(2, 3, 32, 32, device="meta")).sum().backward()
    assert lean[0].weight.grad.shape == (8, 3, 3, 3)


def test_another_default_device():
    _, lean = twins(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2)))
    x = torch.randn(2, 3, 32, 32)
    with torch.device("meta"):
        lean(x).sum().backward()
    assert lean[0].weight.grad.device.type == "cpu"


@pytest.mark.parametrize("size", [512, 256])
def test_pooling_a_large_image_takes_little_beside_its_bytes(size):
    stock, lean = twins(
        nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.MaxPool2d(3, 1, 1),
            frozen(nn.Conv2d(16, 16, 3, padding=1)),
            nn.ReLU(),
            frozen(nn.Conv2d(16, 16, 1)),
        )
    )
    x = torch.randn(1, 3, size, size)
    ours, theirs = peak_bytes(lean, x), peak_bytes(stock, x)
    places = 16 * size * size  # a byte each, while the indices are there too
    assert ours <= theirs + places + (1 << 21)
