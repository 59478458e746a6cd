"""Two copies of one model, frozen alike, one of them lean."""

from __future__ import annotations

import copy

import pytest
import torch

from freezekit import freeze_
from freezekit.lean.native import core as cores


@pytest.fixture(params=["native", "python"])
def core(request, monkeypatch):
    """Run the test with each of lean's cores."""
    if request.param == "python":
        monkeypatch.setattr(cores, "_choice", [(None, "a test")])
        return None
    cores.prepare_core()
    native = cores.native_core()
    if native is None:
        pytest.skip(cores.core_in_use())
    native.forget_kernels()
    return native


@pytest.fixture
def step():
    return training_step


@pytest.fixture
def twins():
    def make(model, spec):
        lean = copy.deepcopy(model)
        plan = freeze_(model, spec).plan
        freeze_(lean, plan, lean=True)
        return model.train(), lean.train()

    return make


@pytest.fixture
def assert_same():
    def compare(stock, lean, run=training_step):
        """Both give the same loss and gradients, bit by bit, and leave the same buffers."""
        ours, theirs = run(lean), run(stock)
        assert ours.keys() == theirs.keys()
        different = [name for name in theirs if not _same(ours[name], theirs[name])]
        assert different == []

    return compare


def training_step(model, images=None, loss=None):
    """Return the loss, gradients and buffers of one step, by name."""
    torch.manual_seed(1)
    if images is None:
        images = torch.randn(2, 3, 64, 64)
    output = model(images)
    value = loss(output) if loss else _loss(output)
    model.zero_grad()
    value.backward()
    found = {"loss": value.detach()}
    found |= {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return found | {name: b.clone() for name, b in model.named_buffers()}


def _loss(output):
    if isinstance(output, tuple):  # GoogLeNet and its auxiliary classifiers
        return sum(_loss(o) for o in output if o is not None)
    return output.float().square().mean()


def _same(a, b):
    return a.dtype == b.dtype and torch.equal(a.nan_to_num(nan=1e9), b.nan_to_num(nan=1e9))
