"""Kernels that read an input of which lean holds only the shape: the same gradients as stock."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  # as everybody calls it

from freezekit.lean import Lean, placeholders
from freezekit.lean.rules.table import RULES
from tests.sampled import sampled

pytestmark = [
    pytest.mark.usefixtures("core"),
    pytest.mark.filterwarnings(
        "ignore:TF32 acceleration on top of oneDNN:UserWarning",  # torch's own, of the switch
        "ignore:Using padding='same' with even kernel:UserWarning",
    ),
]
in_python = pytest.mark.parametrize("core", ["python"], indirect=True)
ONEDNN = torch.backends.mkldnn.flags
LAST = torch.channels_last
MAP = (17, 4, 16, 16)


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch):
    monkeypatch.setattr(placeholders, "_asked_for_memory", set())


class Around(nn.Module):
    """One function behind a sum, so that its input needs a gradient and nothing else keeps it."""

    def __init__(self, function, *parameters, dtype=torch.float32):
        super().__init__()
        self.function = function
        self.weights = nn.ParameterList(
            nn.Parameter(p.detach().to(dtype), requires_grad=p.requires_grad) for p in parameters
        )
        self.shift = nn.Parameter(torch.zeros((), dtype=dtype))

    def forward(self, x):
        return self.function(x + self.shift, *self.weights)


def lean(model):
    ours = copy.deepcopy(model)
    Lean(ours).attach()
    return ours


def weight(*shape):
    return nn.Parameter(torch.randn(shape), requires_grad=False)


def gradients(model, x, forward=True, backward=True, **how):
    """Return the gradients, with oneDNN on or off in forward and backward."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    with ONEDNN(enabled=forward):
        out = model(x)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(4)).to(out)
    wanted = [x, *(p for p in model.parameters() if p.requires_grad)]
    with ONEDNN(enabled=backward):
        return torch.autograd.grad(out, wanted, grad, **how)


def assert_same(model, x, **how):
    found = zip(gradients(lean(model), x, **how), gradients(model, x, **how), strict=True)
    assert all(a.dtype == b.dtype and torch.equal(a, b) for a, b in found)


CONVOLUTIONS = {
    "3x3": (lambda x, w: F.conv2d(x, w, padding=1), [weight(4, 4, 3, 3)], MAP),
    "1x1": (F.conv2d, [weight(4, 4, 1, 1)], MAP),
    "7x7": (lambda x, w: F.conv2d(x, w, padding=1), [weight(2, 2, 7, 7)], (17, 2, 16, 33)),
    "bias": (F.conv2d, [weight(4, 4, 3, 3), nn.Parameter(torch.randn(4))], MAP),
    "groups": (lambda x, w: F.conv2d(x, w, groups=2), [weight(4, 2, 3, 3)], MAP),
    "depthwise": (lambda x, w: F.conv2d(x, w, groups=4), [weight(4, 1, 3, 3)], MAP),
    "dilated": (lambda x, w: F.conv2d(x, w, dilation=2), [weight(4, 4, 3, 3)], MAP),
    "unbatched": (F.conv2d, [weight(4, 4, 3, 3)], (4, 33, 33)),
    "same": (lambda x, w: F.conv2d(x, w, padding="same"), [weight(4, 4, 2, 4)], MAP),
    "1d": (F.conv1d, [weight(4, 4, 3)], (17, 4, 64)),
    "3d": (F.conv3d, [weight(4, 4, 3, 3, 3)], (3, 4, 8, 8, 8)),
    "transposed": (F.conv_transpose2d, [weight(4, 4, 3, 3)], MAP),
    "transposed 3d": (F.conv_transpose3d, [weight(4, 4, 3, 3, 3)], (3, 4, 8, 8, 8)),
}
OTHERS = {
    "max": lambda x: F.max_pool2d(x, 3, 2, 1),
    "average": lambda x: F.avg_pool2d(x, 3, 2),
    "adaptive": lambda x: F.adaptive_avg_pool2d(x, 5),
    "average 1d": lambda x: F.avg_pool1d(x.flatten(2), 3),
    "adaptive 1d": lambda x: F.adaptive_avg_pool1d(x.flatten(2), 5),
    "reflect": lambda x: F.pad(x, (1, 2, 2, 1), mode="reflect"),
    "replicate": lambda x: F.pad(x, (1, 2, 2, 1), mode="replicate"),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("onednn", [(False, False), (True, False), (False, True)], ids=str)
def test_convolutions_without_onednn(name, dtype, onednn):
    function, parameters, shape = CONVOLUTIONS[name]
    model = Around(function, *parameters, dtype=dtype)
    on = {"forward": onednn[0], "backward": onednn[1]}
    for layout in (torch.contiguous_format, LAST):
        if layout is LAST and len(shape) != 4:
            continue
        x = torch.randn(shape, dtype=dtype).contiguous(memory_format=layout)
        assert_same(model, x, **on)
        assert_same(model, x, create_graph=True, **on)
        assert_same(model, x[:1] if name != "unbatched" else x[..., 1:], **on)


@pytest.mark.parametrize("threads", sampled([2, 1], every=2))
@pytest.mark.parametrize("deterministic", [False, True], ids=["fast", "deterministic"])
def test_threads_and_deterministic_algorithms(threads, deterministic):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)
    try:
        for function, parameters, shape in CONVOLUTIONS.values():
            model = Around(function, *parameters)
            assert_same(model, torch.randn(shape), forward=False, backward=False)
        for function in OTHERS.values():
            assert_same(Around(function), torch.randn(MAP))
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["3x3", "bias", "1d", "unbatched", "same", "transposed"])
def test_under_autocast(name):
    function, parameters, shape = CONVOLUTIONS[name]

    def cast(*args):
        with torch.autocast("cpu", torch.bfloat16):
            return function(*args)

    for enabled in (True, False):
        assert_same(Around(cast, *parameters), torch.randn(shape), backward=enabled)


def asked():
    return len(placeholders._asked_for_memory)


@in_python
def test_a_kernel_that_asks_for_memory_gets_it_at_once_next_time(core, monkeypatch):
    model, x = lean(Around(*_plain("3x3"))), torch.randn(MAP)
    gradients(model, x)
    assert asked() == 0
    gradients(model, x, backward=False)
    assert asked() == 1
    attempts = []
    attempt = placeholders._Attempt.gradients
    monkeypatch.setattr(
        placeholders._Attempt, "gradients", lambda *a: attempts.append(a) or attempt(*a)
    )
    gradients(model, torch.randn(9, *MAP[1:]), backward=False)  # another batch, no new attempt
    assert attempts == []
    monkeypatch.setattr(placeholders, "MAX_REMEMBERED", 1)
    gradients(lean(Around(*_plain("1x1"))), x, backward=False)
    assert asked() == 1


def _plain(name):
    function, parameters, _ = CONVOLUTIONS[name]
    return function, *parameters


@pytest.mark.parametrize("core", ["native"], indirect=True)
def test_the_native_core_remembers_which_kernels_ask_for_memory(core):
    model, x = lean(Around(*_plain("3x3"))), torch.randn(MAP)
    gradients(model, x)
    assert core.asked_for_memory() == 0
    gradients(model, x, backward=False)
    gradients(model, torch.randn(9, *MAP[1:]), backward=False)  # another batch, the same kernel
    assert core.asked_for_memory() == 1


@in_python
def test_no_kernel_can_read_a_placeholder_without_memory(core):
    out = Around(*_plain("3x3"))
    model, seen = lean(out), []
    run = placeholders._Attempt.gradients

    def spy(self, grad):
        if not self.shape.needs_memory:
            placeholder = self.shape.restore()
            assert placeholder.untyped_storage().nbytes() == 0
            for read in (placeholder.data_ptr, placeholder.clone, placeholder.contiguous().sum):
                with pytest.raises(RuntimeError, match="lean saved only its shape"):
                    read()
            seen.append(placeholder.shape)
        return run(self, grad)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(placeholders._Attempt, "gradients", spy)
        gradients(model, torch.randn(MAP))
    assert seen == [torch.Size(MAP)]


def test_an_error_of_another_kind_is_raised_as_in_stock():
    model = lean(Around(*_plain("3x3")))
    out = model(torch.randn(MAP))
    first = torch.autograd.grad(out.sum(), model.shift, retain_graph=True)
    assert torch.equal(first[0], torch.autograd.grad(out.sum(), model.shift)[0])
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        out.sum().backward()


def test_gradients_of_some_inputs_alone():
    for name in CONVOLUTIONS:
        function, parameters, shape = CONVOLUTIONS[name]
        model = Around(function, *parameters)
        x = torch.randn(shape)
        found = []
        for each in (lean(model), model):
            each.zero_grad()
            each(x).sum().backward(inputs=[each.shift])
            found.append(each.shift.grad.clone())
        assert torch.equal(*found)


@in_python
def test_a_function_that_torch_computes_in_another_way_saves_as_stock(core, monkeypatch):
    """As the decompositions do that torch runs on CUDA with deterministic algorithms."""

    def by_index(x, pad, mode):
        assert (pad, mode) == ((1, 1), "replicate")
        at = torch.arange(-1, x.shape[-1] + 1).clamp(0, x.shape[-1] - 1)
        return x[..., at] * x.sigmoid()[..., at]

    monkeypatch.setitem(RULES, by_index, RULES[F.pad])

    def call(x):
        return torch.overrides.handle_torch_function(by_index, (x,), x, (1, 1), mode="replicate")

    def function(x):
        in_mode = torch.overrides._get_current_function_mode() is not None
        return call(x) if in_mode else by_index(x, (1, 1), mode="replicate")

    assert_same(Around(function), torch.randn(MAP))
