"""What else may be at work in a forward or a backward of a lean model: nothing goes wrong then."""

from __future__ import annotations

import copy
import signal

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F  # noqa: N812  # as everybody calls it
from torch.profiler import profile

from freezekit.lean import Lean

pytestmark = pytest.mark.usefixtures("core")
in_native = pytest.mark.parametrize("core", ["native"], indirect=True)

X = torch.randn(2, 3, 32, 32)


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.frozen = nn.Conv2d(8, 8, 3, padding=1).requires_grad_(False)
        self.norm = nn.BatchNorm2d(8).requires_grad_(False).eval()
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        return self.frozen(F.relu(self.norm(self.frozen(self.first(x)))))


def twins(model):
    lean = copy.deepcopy(model)
    Lean(lean).attach()
    return model, lean


def gradients(model):
    model.zero_grad()
    model(X).square().mean().backward()
    return [p.grad for p in model.parameters() if p.requires_grad]


def assert_same_gradients(model):
    stock, lean = twins(model)
    for ours, theirs in zip(gradients(lean), gradients(stock), strict=True):
        assert torch.equal(ours, theirs)


class Dies(Layers):
    """Releases an activation while something else is at work."""

    def forward(self, x):
        held = [F.relu(self.first(x))]
        out = self.frozen(held[0])
        self.work(held)
        return self.frozen(F.relu(out))

    def work(self, held):
        raise NotImplementedError


class DiesInTransform(Dies):
    def work(self, held):
        def function(x):
            held.clear()
            return F.relu(self.frozen(x)).sum()

        torch.func.grad(function)(torch.ones(2, 8, 32, 32))


class DiesInForwardMode(Dies):
    def work(self, held):
        def function(x):
            held.clear()
            return F.relu(self.frozen(F.silu(x)))

        x = torch.ones(2, 8, 32, 32)
        torch.func.jvp(function, (x,), (x,))


class DiesAmongFakes(Dies):
    def work(self, held):
        with FakeTensorMode(allow_non_fake_inputs=True):
            held.clear()
            F.dropout(F.max_pool2d(F.relu6(self.frozen(torch.ones(2, 8, 32, 32))), 2))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's own, of torch.jit.script
@pytest.mark.parametrize("model", [DiesInTransform, DiesInForwardMode, DiesAmongFakes])
def test_an_activation_dies_where_new_tensors_have_no_memory(model):
    assert_same_gradients(model())


class ChangesData(Layers):
    """Changes values behind autograd's back."""

    def __init__(self, context):
        super().__init__()
        self.context = context

    def forward(self, x):
        x = F.silu(self.first(x))
        with self.context():
            x.data.mul_(2)
        return self.frozen(x * torch.sigmoid(x))


def same_hooks():
    return saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor)


@pytest.mark.parametrize("context", [torch.no_grad, torch.enable_grad, same_hooks])
def test_values_changed_through_data(context):
    assert_same_gradients(ChangesData(context))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_a_batch_of_gradients(layout):
    found = []
    for model in twins(Layers().to(memory_format=layout)):
        out = model(X.to(memory_format=layout))
        many = torch.ones(3, *out.shape) * torch.arange(3).view(-1, 1, 1, 1, 1)
        found += torch.autograd.grad(out, model.first.weight, many, is_grads_batched=True)
    assert torch.equal(*found)


@in_native  # torch warns of the placeholders of the core in Python
def test_a_profiler_that_records_shapes(core, capfd):
    _, lean = twins(Layers())
    with profile(record_shapes=True, acc_events=True):
        gradients(lean)
    assert "Exception in RecordFunction" not in capfd.readouterr().err


class Long(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.first, self.layer = nn.Conv2d(1, 1, 1), layer

    def forward(self, x):
        x = self.first(x)
        for _ in range(60_000):
            x = self.layer(x)
        return x


@in_native  # the core in Python takes tens of seconds
def test_a_long_graph_dies(core):
    _, lean = twins(Long(nn.Conv2d(1, 1, 1, bias=False).requires_grad_(False)))
    graph = lean(torch.randn(1, 1, 32, 32))
    del graph  # by recursion, it would overflow the stack and kill the process


@in_native  # a mode of Python's may be interrupted as it begins
def test_interruptions_leave_no_trace(core):
    _, lean = twins(Layers())
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for microseconds in range(100, 3000, 30):
            with pytest.raises(KeyboardInterrupt):  # noqa: PT012  # the signal comes at any time
                signal.setitimer(signal.ITIMER_REAL, microseconds / 1e6)
                while True:
                    lean(X)
            of_stock = F.relu(torch.ones(8, 32, 32, requires_grad=True))
            assert type(of_stock.grad_fn).__name__ == "ReluBackward0"
    finally:
        signal.signal(signal.SIGALRM, before)
