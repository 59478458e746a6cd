"""Promises at the edges: gradients differentiated again, and activations that are no number."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  # as everybody calls it

from freezekit.lean import Lean

pytestmark = pytest.mark.usefixtures("core")
FLOATS = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


class Normalised(nn.Module):
    """A batch norm with fixed statistics and a frozen weight, behind a sum."""

    def __init__(self, dtype, of_parameters):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        mean, variance, weight, bias = torch.randn(4, 8, generator=generator).to(of_parameters)
        self.register_buffer("mean", mean)
        self.register_buffer("variance", variance.abs() + 0.5)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias)
        self.shift = nn.Parameter(torch.zeros((), dtype=dtype))

    def forward(self, x):
        return F.batch_norm(x + self.shift, self.mean, self.variance, self.weight, self.bias)


def twins(model):
    lean = copy.deepcopy(model)
    Lean(lean).attach()
    return lean, model


def first_and_second(model, x):
    """Return gradients of the first order, made to be differentiated again, and of the second."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    out = model(x)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(2)).to(out)
    grad.requires_grad_()
    wanted = [x, *(p for p in model.parameters() if p.requires_grad)]
    first = torch.autograd.grad(out, wanted, grad, create_graph=True)
    total = sum(f.float().square().sum() for f in first)
    return [*first, *torch.autograd.grad(total, [grad])]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("bias_trains", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_gradients_through_a_fixed_batch_norm_under_create_graph(dtype, bias_trains, layout):
    half = torch.finfo(dtype).bits < 32
    for of_parameters in (dtype, torch.float32) if half else (dtype,):
        model = Normalised(dtype, of_parameters)
        model.bias.requires_grad_(bias_trains)
        # 40,000 elements a channel: their sum in half precision would have lost its last digits
        x = torch.randn(25, 8, 40, 40).to(dtype).contiguous(memory_format=layout)
        *ours, our_second = first_and_second(twins(model)[0], x)
        *theirs, second = first_and_second(model, x)
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
        assert _ulps(our_second, second) <= 2


def _ulps(a, b):
    """Return the largest difference in units in the last place of the largest element."""
    info = torch.finfo(a.dtype)
    largest = b.detach().abs().max().double()
    return float((a.double() - b.double()).abs().max() / (largest * info.eps))


@pytest.mark.parametrize("function", [F.relu6, F.hardtanh], ids=["relu6", "hardtanh"])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_a_nan_stops_the_gradient_of_relu6_where_torch_lets_it_pass_in_a_few_elements(
    function, dtype
):
    before = torch.get_num_threads()
    few = 64 // torch.finfo(dtype).bits * 8 - 1  # two vectors of 32 bytes, less one element
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for size in (16384, 16384 + few, 100_003, 131_071):
                x = torch.full((size,), torch.nan, dtype=dtype)
                ours, theirs = (
                    _gradient(m, x) for m in twins(nn.Sequential(Shift(dtype), Call(function)))
                )
                assert not ours.any()
                assert theirs.count_nonzero() <= few * threads
                x = torch.linspace(-8, 8, size, dtype=dtype)
                x[::3] = torch.nan
                ours, theirs = (
                    _gradient(m, x) for m in twins(nn.Sequential(Shift(dtype), Call(function)))
                )
                different = (ours != theirs).nonzero().flatten()
                assert len(different) <= few * threads
                assert x[different].isnan().all()
    finally:
        torch.set_num_threads(before)


class Shift(nn.Module):
    """Makes its output need a gradient."""

    def __init__(self, dtype):
        super().__init__()
        self.by = nn.Parameter(torch.zeros((), dtype=dtype))

    def forward(self, x):
        return x + self.by


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def _gradient(model, x):
    x = x.clone().requires_grad_()
    out = model(x)
    out.backward(torch.ones_like(out))
    return x.grad
