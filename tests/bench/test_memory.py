from __future__ import annotations

import pytest
import torch
from torch import nn

from freezekit.bench.memory import measured_figures, traced_memory
from freezekit.bench.static import static_figures
from freezekit.bench.workload import build, prepare
from freezekit.errors import ModelError
from freezekit.model.out_of_memory import is_out_of_memory
from freezekit.results.records import Workload

SMALL = Workload("torchvision:resnet18", batch_size=2, image_size=64)


@pytest.mark.parametrize("spec", ["full", "head-only"])
def test_a_real_step_agrees_with_the_prediction_and_the_allocator(spec):
    memory = measured_figures(SMALL, spec)
    predicted = static_figures(SMALL, spec).memory
    assert memory.peak_method == "measured"
    assert memory.tracker_peak_bytes == predicted.predicted_peak_bytes
    assert memory.saved_activations_bytes == predicted.saved_activations_bytes
    assert memory.peak_bytes == memory.tracker_peak_bytes + memory.workspace_bytes
    assert 0 <= memory.workspace_bytes < 0.2 * memory.tracker_peak_bytes
    assert memory.process_bytes > 2**26  # torch alone takes more


def test_the_allocator_sees_what_no_tensor_shows():
    """A head-only step peaks inside a convolution of the forward pass, on its scratch space."""
    assert measured_figures(SMALL, "head-only").workspace_bytes > 10**6


def test_nothing_is_left_from_step_to_step():
    session = build(SMALL, "full")
    assert traced_memory(session) == traced_memory(session)


class KeepsByHand(torch.autograd.Function):
    """Keeps the input's square as a plain attribute, where saved-tensor hooks do not look."""

    @staticmethod
    def forward(ctx, x):
        ctx.kept = x * x
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.kept


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(3 * 8 * 8, 32)
        self.fc2 = nn.Linear(32, 5)
        self.register_buffer("table", torch.zeros(16))

    def forward(self, x):
        return self.fc2(KeepsByHand.apply(self.fc1(x.flatten(1))))


def test_what_an_autograd_function_keeps_as_an_attribute_is_a_saved_activation():
    workload = Workload("tests:Net", batch_size=2, image_size=8)
    memory, idle_bytes = traced_memory(prepare(workload, Net(), "full"))
    kept, fc2_input, loss = 2 * 32 * 4, 2 * 32 * 4, 2 * 5 * 4 + 4
    assert memory.saved_activations_bytes == kept + fc2_input + loss
    assert memory.buffers_bytes == 64
    assert idle_bytes == (
        memory.parameters_bytes
        + memory.buffers_bytes
        + memory.inputs_bytes
        + memory.optimizer_bytes
    )


WIDTH = 128


class Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3 * 8 * 8, WIDTH)
        self.layers = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(4)))
        self.fc = nn.Linear(WIDTH, 5)

    def forward(self, x):
        return self.fc(self.layers(self.first(x.flatten(1))))


@pytest.mark.parametrize("batch", [1, 64, 2048])
def test_at_the_peak_gradients_and_saved_activations_are_what_is_alive_then(batch):
    """With a large batch backward begins at the peak, with a small one it ends there."""
    workload = Workload("tests:Deep", batch_size=batch, image_size=8)
    memory, idle_bytes = traced_memory(prepare(workload, Deep(), "full"))
    at_peak = memory.gradients_at_peak_bytes + memory.saved_at_peak_bytes
    assert memory.saved_at_peak_bytes <= memory.saved_activations_bytes
    assert memory.gradients_at_peak_bytes <= memory.gradients_bytes
    transient = memory.tracker_peak_bytes - idle_bytes - at_peak
    assert transient >= 0
    if batch == 1:
        assert memory.gradients_at_peak_bytes == memory.gradients_bytes
    if batch == 2048:
        assert memory.gradients_at_peak_bytes < memory.gradients_bytes / 2
        assert memory.saved_at_peak_bytes > 0.7 * memory.saved_activations_bytes


@pytest.mark.parametrize("spec", ["full", "head-only", "batch-norm"])
def test_what_is_alive_at_the_peak_is_predicted_like_the_peak(spec):
    predicted = static_figures(SMALL, spec).memory
    real, _ = traced_memory(build(SMALL, spec))
    for name in ("gradients_at_peak_bytes", "saved_at_peak_bytes"):
        assert getattr(predicted, name) == getattr(real, name), name


def test_tied_parameters_and_frozen_ones_count_once_and_have_no_gradient():
    model = Net()
    model.fc3 = nn.Linear(32, 5)
    model.fc3.weight = model.fc2.weight  # never used, but tied
    workload = Workload("tests:Net", batch_size=2, image_size=8)
    memory, _ = traced_memory(prepare(workload, model, "by-name:contains=fc1"))
    assert memory.parameters_bytes == (192 * 32 + 32 + 32 * 5 + 5 + 5) * 4
    assert memory.gradients_bytes == (32 * 5 + 5) * 4


class TestOutOfMemory:
    def test_the_cpu_allocator(self):
        with pytest.raises(RuntimeError) as caught:
            torch.empty(1 << 50)
        assert is_out_of_memory(caught.value)

    def test_cuda_and_python(self):
        assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"))
        assert is_out_of_memory(MemoryError())

    def test_what_caused_another_error(self):
        error = ModelError("the model raised")
        error.__cause__ = torch.OutOfMemoryError("CUDA out of memory")
        assert is_out_of_memory(error)

    def test_other_errors(self):
        assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
        assert not is_out_of_memory(ValueError("out of memory"))
        assert not is_out_of_memory(None)


def test_a_batch_too_large_for_the_machine_runs_out_of_memory():
    with pytest.raises(Exception, match="memory") as caught:
        measured_figures(Workload("torchvision:resnet18", batch_size=10**9), "full")
    assert is_out_of_memory(caught.value)


@pytest.mark.gpu
@pytest.mark.parametrize("spec", ["full", "head-only"])
def test_cuda(spec):
    workload = Workload("torchvision:resnet18", batch_size=8, image_size=128, device="cuda")
    memory = measured_figures(workload, spec)
    predicted = static_figures(workload, spec).memory
    assert memory.workspace_bytes >= 0
    assert memory.process_bytes >= memory.peak_bytes
    assert predicted.predicted_peak_bytes == pytest.approx(memory.tracker_peak_bytes, rel=1e-2)
