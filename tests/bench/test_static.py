from __future__ import annotations

import msgspec
import pytest
import torch

from freezekit.bench.counting import count_parameters
from freezekit.bench.memory import measured_figures, traced_memory
from freezekit.bench.static import static_figures
from freezekit.bench.workload import build, describe_workload
from freezekit.errors import ModelError, PlanError
from freezekit.results.records import Flops, Memory, Workload
from tests.sampled import exhaustive

# Two images of 3 x 8 x 8; all that follows can be counted by hand.
NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.fc = nn.Linear(256, 5)

    def forward(self, x):
        x = self.conv1(x).relu()
        x = self.conv2(x).relu()
        return self.fc(x.flatten(1))

class Depthwise(Net):
    def __init__(self):
        super().__init__()
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, bias=False, groups=4)

class ReadsValues(Net):
    def forward(self, x):
        return super().forward(x if x.sum() > 0 else -x)

class NotOnMeta(Net):
    def __init__(self):
        super().__init__()
        self.scale = float(self.fc.bias.detach().abs().max())
"""
MAP = 2 * 4 * 8 * 8 * 4  # bytes of a feature map
CONV1, CONV2, FC = 4 * 3 * 9 * 4, 4 * 4 * 9 * 4, (5 * 256 + 5) * 4
LOSS = 2 * 5 * 4 + 4  # cross-entropy keeps log-probabilities and the sum of weights
CONV1_FLOPS, CONV2_FLOPS = 2 * 2 * 4 * 64 * 3 * 9, 2 * 2 * 4 * 64 * 4 * 9
FC_FLOPS = 2 * 2 * 256 * 5

BYTES = (
    "parameters_bytes",
    "buffers_bytes",
    "inputs_bytes",
    "gradients_bytes",
    "optimizer_bytes",
    "saved_activations_bytes",
)


@pytest.fixture
def net(tmp_path):
    file = tmp_path / "net.py"
    file.write_text(NET)
    return lambda name="Net", **options: Workload(
        f"{file}:{name}", **{"batch_size": 2, "image_size": 8} | options
    )


@pytest.mark.parametrize(
    ("spec", "trained", "saved", "backward"),
    [
        # Both maps after ReLU: the second serves fc as its input too, the first conv2.
        ("full", CONV1 + CONV2 + FC, 2 * MAP + LOSS, CONV1_FLOPS + 2 * CONV2_FLOPS + 2 * FC_FLOPS),
        # conv2 needs its input, ReLU its result.
        ("by-name:contains=conv1", CONV2 + FC, 2 * MAP + LOSS, CONV2_FLOPS + 2 * FC_FLOPS),
        # The frozen prefix saves nothing.
        ("by-name:contains=conv", FC, MAP + LOSS, FC_FLOPS),
        # A frozen layer above passes gradients on: conv1 trains, the maps stay.
        (
            "by-name:contains=conv1,invert=true",
            CONV1,
            2 * MAP + LOSS,
            CONV1_FLOPS + CONV2_FLOPS + FC_FLOPS,
        ),
    ],
)
def test_figures_are_those_counted_by_hand(net, spec, trained, saved, backward):
    figures = static_figures(net(), spec)
    assert {name: getattr(figures.memory, name) for name in BYTES} == {
        "parameters_bytes": CONV1 + CONV2 + FC,
        "buffers_bytes": 0,
        "inputs_bytes": 2 * 3 * 8 * 8 * 4 + 2 * 8,  # images and labels
        "gradients_bytes": trained,
        "optimizer_bytes": trained,  # SGD's momentum
        "saved_activations_bytes": saved,
    }
    assert figures.flops == Flops(CONV1_FLOPS + CONV2_FLOPS + FC_FLOPS, backward)
    assert figures.parameters.trainable * 4 == trained
    assert figures.warnings == ()


def test_gradients_of_a_grouped_convolution_cost_what_it_costs(net):
    flops = static_figures(net("Depthwise"), "full").flops
    grouped = CONV2_FLOPS // 4
    assert flops == Flops(
        CONV1_FLOPS + grouped + FC_FLOPS, CONV1_FLOPS + 2 * grouped + 2 * FC_FLOPS
    )


def test_adam_keeps_two_moments_and_a_step_count(net):
    figures = static_figures(net(optimizer="adam"), "full")
    assert figures.memory.optimizer_bytes == 2 * (CONV1 + CONV2 + FC) + 4 * 4


def test_half_precision_halves(net):
    memory = static_figures(net(dtype="bfloat16"), "full").memory
    assert memory.parameters_bytes == (CONV1 + CONV2 + FC) // 2
    assert memory.saved_activations_bytes == (2 * MAP + LOSS) // 2


def test_the_same_twice(net):
    assert static_figures(net(), "full") == static_figures(net(), "full")


@pytest.mark.parametrize(
    ("model", "spec", "options"),
    [
        exhaustive(("torchvision:resnet18", "batch-norm", {})),
        ("torchvision:mobilenet_v3_small", "first-n-stages:n=2", {"channels_last": True}),
        exhaustive(
            ("torchvision:mobilenet_v3_small", "full", {"dtype": "bfloat16", "optimizer": "adam"})
        ),
        exhaustive(("timm:vit_tiny_patch16_224", "full", {"optimizer": "adamw"})),
        ("timm:vit_tiny_patch16_224", "first-n-stages:n=6", {"amp": "bfloat16"}),
    ],
)
def test_fake_equals_real_byte_for_byte(model, spec, options):
    workload = Workload(model, batch_size=2, image_size=32, num_classes=10, **options)
    predicted = static_figures(workload, spec).memory
    real, _ = traced_memory(build(workload, spec))
    assert predicted.predicted_peak_bytes == real.tracker_peak_bytes
    assert [getattr(predicted, name) for name in BYTES] == [getattr(real, name) for name in BYTES]


@pytest.mark.parametrize(
    ("model", "spec", "batch_size"),
    [
        exhaustive(("timm:test_resnet", "full", 2)),
        exhaustive(("timm:test_resnet", "batch-norm", 2)),
        ("torchvision:resnet18", "bias-only", 26),  # its peak is where pooling is undone
        ("torchvision:mobilenet_v3_small", "bias-only", 2),  # it has dropout
    ],
)
def test_fake_equals_real_in_lean_too(model, spec, batch_size):
    workload = Workload(model, batch_size=batch_size, image_size=64)
    predicted = static_figures(workload, spec, lean=True)
    real, _ = traced_memory(build(workload, spec, lean=True))
    assert predicted.memory.predicted_peak_bytes == real.tracker_peak_bytes
    assert [getattr(predicted.memory, name) for name in BYTES] == [
        getattr(real, name) for name in BYTES
    ]
    stock = static_figures(workload, spec)
    assert predicted.memory.saved_activations_bytes < stock.memory.saved_activations_bytes
    assert predicted.parameters == stock.parameters
    assert predicted.flops.forward == stock.flops.forward
    assert predicted.flops.backward >= stock.flops.backward


def test_lean_where_nothing_can_be_predicted(net):
    stock, lean = (static_figures(net("ReadsValues"), "full", lean=lean) for lean in (False, True))
    assert lean == stock
    assert lean.flops is None
    assert measured_figures(net("ReadsValues"), "full", lean=True).saved_activations_bytes > 0


def test_under_autocast_statistics_of_batch_norms_are_predicted_too_small():
    """Torch's fake batch norm keeps them in bfloat16, the real one in float32."""
    workload = Workload("torchvision:resnet18", batch_size=2, image_size=32, amp="bfloat16")
    predicted = static_figures(workload, "full").memory
    real, _ = traced_memory(build(workload, "full"))
    statistics = 2 * 4800  # mean and inverse deviation of each channel
    short = real.saved_activations_bytes - predicted.saved_activations_bytes
    assert short == statistics * (4 - 2)
    assert predicted.predicted_peak_bytes == pytest.approx(real.tracker_peak_bytes, rel=1e-3)


def test_head_only_saves_next_to_nothing():
    workload = Workload("torchvision:resnet18", batch_size=2, image_size=64)
    full, head = (static_figures(workload, s).memory for s in ("full", "head-only"))
    pooled, loss = 2 * 512 * 4, 2 * 1000 * 4 + 4
    assert head.saved_activations_bytes == pooled + loss
    assert head.saved_activations_bytes < full.saved_activations_bytes / 100


def test_freezing_batch_norms_saves_no_activations_worth_the_name():
    workload = Workload("torchvision:resnet50", batch_size=8, image_size=160)
    full, norms = (static_figures(workload, s).memory for s in ("full", "batch-norm"))
    images = 8 * 3 * 160 * 160 * 4
    assert (full.saved_activations_bytes + images) / 2**20 == pytest.approx(334.7, abs=0.05)
    assert (norms.saved_activations_bytes + images) / 2**20 == pytest.approx(334.5, abs=0.05)


def test_the_peak_is_no_less_than_what_must_be_alive_together():
    workload = Workload("torchvision:mobilenet_v3_small", batch_size=4, image_size=64)
    for spec in ("full", "head-only"):
        memory = static_figures(workload, spec).memory
        always = sum(getattr(memory, name) for name in BYTES[:3]) + memory.optimizer_bytes
        most = max(memory.gradients_bytes, memory.saved_activations_bytes)
        assert memory.peak_bytes == memory.predicted_peak_bytes >= always + most
        assert memory.peak_method == "predicted"


def test_a_model_that_reads_values_has_its_parameters_counted_and_says_why_no_more(net):
    figures = static_figures(net("ReadsValues"), "by-name:contains=conv")
    assert figures.parameters.trainable * 4 == FC
    assert figures.memory == Memory()
    assert figures.flops is None
    assert "could not be predicted" in figures.warnings[0]


def test_a_builder_that_reads_values_is_run_for_real(net):
    assert static_figures(net("NotOnMeta"), "full") == static_figures(net(), "full")


def test_pretrained_weights_are_not_fetched(net):
    pretrained = Workload("torchvision:resnet18", batch_size=2, image_size=32, pretrained=True)
    plain = msgspec.structs.replace(pretrained, pretrained=False)
    assert static_figures(pretrained, "full") == static_figures(plain, "full")


def test_errors_of_model_and_plan_pass_through(net):
    with pytest.raises(ModelError, match="does not take an input of shape"):
        static_figures(net(image_size=9), "full")
    with pytest.raises(PlanError):
        static_figures(net(), "by-name:regex=.")


def test_the_digest_tells_trainable_sets_apart():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    whole = count_parameters(model)
    model[0].requires_grad_(False)
    part = count_parameters(model)
    model[0].requires_grad_(True)
    model[1].requires_grad_(False)
    other = count_parameters(model)
    assert (part.total, part.trainable) == (12, 6) == (other.total, other.trainable)
    assert len({whole.trainable_digest, part.trainable_digest, other.trainable_digest}) == 3


@pytest.mark.parametrize(
    ("model", "size", "shape"),
    [
        ("torchvision:mc3_18", 32, (2, 3, 16, 32, 32)),
        exhaustive(("torchvision:raft_small", 128, (2, 3, 128, 128))),
        exhaustive(("torchvision:lraspp_mobilenet_v3_large", 64, (2, 3, 64, 64))),
        ("torchvision:quantized_resnet18", 32, (2, 3, 32, 32)),
    ],
)
def test_other_tasks_than_classification(model: str, size: int, shape: tuple[int, ...]) -> None:
    workload = describe_workload(Workload(model, batch_size=2, image_size=size))
    assert workload.input_shape == shape
    full, prefix = (static_figures(workload, spec) for spec in ("full", "first-n-stages:n=2"))
    assert full.memory.peak_method == prefix.memory.peak_method == "predicted"
    assert prefix.memory.saved_activations_bytes < full.memory.saved_activations_bytes
    assert prefix.flops.backward < full.flops.backward


def test_detection_is_frozen_but_not_predicted() -> None:
    model = "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn"
    workload = describe_workload(Workload(model, batch_size=1, image_size=64))
    assert workload.loss_text is not None
    assert workload.loss_text.startswith("sum of the model's own losses: loss_classifier")
    figures = static_figures(workload, "first-n-stages:n=2")
    assert figures.parameters.trainable < figures.parameters.total
    assert figures.memory.peak_bytes is None
    assert any("needs real numbers" in text for text in figures.warnings)
    measured = measured_figures(workload, "first-n-stages:n=2")
    assert measured.saved_activations_bytes > 0
