"""Random programs of functions that have rules: both cores give stock's bits, and hold the same."""

from __future__ import annotations

import copy
import random

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  # as everybody calls it

from freezekit.lean import Lean
from freezekit.lean.native import core as cores
from freezekit.memory.tracker import StorageTracker

CHANNELS = 8
in_native = pytest.mark.parametrize("core", ["native"], indirect=True)


def convolution(trained, bias, groups=1):
    layer = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=groups, bias=bias)
    layer.weight.requires_grad_(trained)
    return layer


def norm(trained, fixed):
    layer = nn.BatchNorm2d(CHANNELS)
    layer.weight.requires_grad_(trained)
    nn.init.uniform_(layer.weight, 0.5, 1.5)
    nn.init.uniform_(layer.running_var, 0.5, 1.5)
    layer.fixed = fixed
    return layer


class Gate(nn.Module):
    def forward(self, x):
        return x * x.mean((2, 3), keepdim=True).sigmoid()


class OnChannels(nn.Module):
    """A layer norm over the channels, between two views."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(CHANNELS)

    def forward(self, x):
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Call(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Skip(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x) + x


FUNCTIONS = (
    F.relu,
    F.relu6,
    F.silu,
    F.gelu,
    F.hardswish,
    F.hardsigmoid,
    F.leaky_relu,
    F.mish,
    torch.sigmoid,
    lambda x: F.relu(x * 1, inplace=True),
    lambda x: F.silu(x * 1, inplace=True),
    lambda x: F.hardswish(x * 1, inplace=True),
    lambda x: F.relu6(x + 1, inplace=True),
    lambda x: F.dropout(x, 0.2),
    lambda x: F.max_pool2d(x, 3, 1, 1),
    lambda x: F.avg_pool2d(x, 3, 1, 1),
    lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect")[..., 1:-1, 1:-1],
    lambda x: torch.roll(x, (1, 2), (2, 3)),
    lambda x: x.flatten(2).reshape(x.shape),
    lambda x: torch.cat(x.chunk(2, 1)[::-1], 1),
    lambda x: x.contiguous(memory_format=torch.channels_last),
    lambda x: x.detach() + x,
)


def program(seed):
    """Return a module of random layers, some of them trained."""
    chosen = random.Random(seed)
    flip = lambda: chosen.random() < 0.5  # noqa: E731

    def layer():
        kind = chosen.randrange(8)
        if kind == 0:
            return convolution(flip(), flip(), chosen.choice((1, 1, 8)))
        if kind == 1:
            return norm(flip(), flip())
        if kind == 2:
            return Gate()
        if kind == 3:
            return OnChannels()
        return Call(chosen.choice(FUNCTIONS))

    torch.manual_seed(seed)
    layers = []
    for _ in range(chosen.randint(4, 10)):
        layers.append(Skip(layer(), layer()) if chosen.random() < 0.3 else layer())
    first = convolution(True, True)
    model = nn.Sequential(first, *layers, convolution(flip(), True))
    for module in model.modules():
        if getattr(module, "fixed", False):
            module.eval()
    return model


def step(model, x):
    torch.manual_seed(1)
    model.zero_grad()
    tracker = StorageTracker(x.device.type)
    tracker.add([x, *model.parameters(), *model.buffers()])
    with tracker:
        loss = model(x).square().mean()
        held = tracker.current_bytes
    loss.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return [loss.detach(), *gradients, *(b.clone() for b in model.buffers())], held


@in_native
@pytest.mark.parametrize("seed", range(40))
def test_a_random_program(seed, core, monkeypatch):
    model = program(seed)
    x = torch.randn(2, CHANNELS, 24, 24, generator=torch.Generator().manual_seed(seed))
    found = []
    for is_lean, runs in ((False, None), (True, core), (True, None)):
        ours = copy.deepcopy(model)
        if is_lean:
            monkeypatch.setattr(cores, "_choice", [(runs, "a test")])
            Lean(ours).attach()
        found.append([*step(ours, x), *step(ours, x)])
    (stock, held, again, _), *leans = found
    for values, kept, second, _ in leans:
        assert all(torch.equal(a, b) for a, b in zip(values, stock, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(second, again, strict=True))
        assert kept <= held
    assert leans[0][1] <= leans[1][1]  # the native core holds what the one in Python holds, or less


@in_native
@pytest.mark.parametrize("seed", range(40, 52))
def test_a_random_program_on_a_device_without_kernels_in_the_core(seed, core):
    """The CPU takes the way of other devices: freezekit's operators pack the bits."""
    model = program(seed)
    ours = copy.deepcopy(model)
    Lean(ours).attach()
    x = torch.randn(2, CHANNELS, 24, 24, generator=torch.Generator().manual_seed(seed))
    core.use_kernels(False)
    try:
        values, held = step(ours, x)
    finally:
        core.use_kernels(True)
    expected, stock = step(model, x)
    assert all(torch.equal(a, b) for a, b in zip(values, expected, strict=True))
    assert held <= stock


@pytest.mark.gpu
@in_native
@pytest.mark.parametrize("seed", range(12))
def test_a_random_program_on_cuda(seed, core, monkeypatch):
    monkeypatch.setenv(cores.VARIABLE, "native")
    torch.use_deterministic_algorithms(True)
    try:
        model = program(seed).cuda()
        ours = copy.deepcopy(model)
        Lean(ours).attach()
        x = torch.randn(2, CHANNELS, 24, 24, device="cuda")
        values, held = step(ours, x)
        expected, stock = step(model, x)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(values, expected, strict=True))
    assert held <= stock
