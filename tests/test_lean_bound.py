"""The bound of the lean benchmark, against small nets counted by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from benchmarks.lean import frozen_batch_norm
from benchmarks.lean.bound import Graph, bound_of
from benchmarks.lean.cases import FIRST_CONVOLUTION_AND_HEAD, spec_of
from benchmarks.lean.needs import MaskStorages, storage_key
from benchmarks.lean.records import Records
from benchmarks.lean.sessions import fake_session
from benchmarks.lean.targets import checked
from freezekit.bench.memory import traced_memory
from freezekit.results.records import Workload

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from benchmarks.lean.bound import Bound

FLOAT = 4
MAP = 2 * 4 * 8 * 8  # elements of (batch, channels, height, width)


def bound(net: nn.Module, inputs: Tensor, frozen: Iterable[nn.Module] = ()) -> Bound:
    for module in frozen:
        module.eval().requires_grad_(False)
    there = {storage_key(t) for t in (*net.parameters(), *net.buffers(), inputs)}
    with MaskStorages() as masks:
        loss = net(inputs).sum()
    return Graph(loss.grad_fn, there, masks.storages).bound()


def convolutional(activation: nn.Module) -> nn.Sequential:
    """Make a net whose every map has MAP elements, and a head of 4 inputs."""
    first, norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
    second = nn.Conv2d(4, 4, 3, padding=1)
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    return nn.Sequential(first, norm, activation, second, *head)


IMAGES = torch.randn(2, 3, 8, 8)
HEAD_INPUT = 2 * 4 * FLOAT
STATISTICS = 2 * 4 * FLOAT  # mean and deviation of 4 channels


@pytest.mark.parametrize("inplace", [False, True])
def test_all_trained(inplace: bool) -> None:
    found = bound(convolutional(nn.ReLU(inplace)), IMAGES)
    # the norm's input and the second convolution's, of which the bits of ReLU can be read
    assert found.bytes == 2 * MAP * FLOAT + STATISTICS + HEAD_INPUT


@pytest.mark.parametrize("inplace", [False, True])
def test_frozen_in_the_middle(inplace: bool) -> None:
    net = convolutional(nn.ReLU(inplace))
    found = bound(net, IMAGES, frozen=(net[1], net[3]))
    assert found.bytes == MAP // 8 + HEAD_INPUT
    assert found.kept == {"Relu": MAP // 8, "Addmm": HEAD_INPUT}


@pytest.mark.parametrize("inplace", [False, True])
def test_an_output_is_computed_again_from_what_is_kept(inplace: bool) -> None:
    net = convolutional(nn.SiLU(inplace))
    assert bound(net, IMAGES, frozen=[net[1]]).bytes == MAP * FLOAT + HEAD_INPUT


def test_bits_cost_nothing_where_the_result_of_relu6_is_kept() -> None:
    net = convolutional(nn.ReLU6())
    assert bound(net, IMAGES, frozen=[net[1]]).bytes == MAP * FLOAT + HEAD_INPUT
    net = convolutional(nn.ReLU6())
    assert bound(net, IMAGES, frozen=(net[1], net[3])).bytes == MAP // 8 + HEAD_INPUT


def test_nothing_before_the_first_trained_layer() -> None:
    net = convolutional(nn.ReLU())
    assert bound(net, IMAGES, frozen=(net[0], net[1], net[3])).bytes == HEAD_INPUT


def test_max_pooling_keeps_places_in_windows() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(3, stride=2, padding=1))
    assert bound(net, IMAGES).bytes == MAP // 4 * 4 // 8  # 9 places: 4 bits
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2))
    assert bound(net, IMAGES).bytes == MAP // 4 * 2 // 8


def test_dropout_keeps_a_bit() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Dropout(0.5))
    assert bound(net, IMAGES).bytes == MAP // 8


@pytest.mark.parametrize("frozen", [(), (1, 2), (0,)])
def test_layer_norm_is_computed_again_for_a_linear_layer(frozen: tuple[int, ...]) -> None:
    net = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 4))
    found = bound(net, torch.randn(6, 8), frozen=[net[i] for i in frozen])
    assert found.bytes == 6 * 16 * FLOAT + 2 * 6 * FLOAT  # its input, mean and deviation


class Gated(nn.Module):
    """A gate of its own size on an activation, then a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.gate = nn.Conv2d(3, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        product = nn.functional.silu(self.first(images)) * torch.sigmoid(self.gate(images))
        return self.last(product)


def test_a_product_of_two_kept_factors_is_not_kept() -> None:
    net = Gated()
    assert bound(net, IMAGES).bytes == 2 * MAP * FLOAT  # SiLU's input and the gate
    net = Gated()
    # the gate is no longer asked for on its own account, but as a factor; SiLU's output is no more
    assert bound(net, IMAGES, frozen=[net.gate]).bytes == 2 * MAP * FLOAT


class Scaled(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images * torch.tensor(3.0)


def test_a_number_costs_nothing_even_as_a_tensor() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.SiLU(), Scaled(), nn.Conv2d(4, 4, 3))
    assert bound(net, IMAGES).bytes == MAP * FLOAT  # SiLU's input; the rest follows from it


def test_what_is_not_known_keeps_all_it_saves() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ELU())
    found = bound(net, IMAGES)
    assert found.bytes == found.stock_bytes == MAP * FLOAT


SMALL = Workload("torchvision:resnet18", batch_size=2, image_size=64)


@pytest.mark.parametrize(
    "name",
    [
        "full",
        "head-only",
        "batch-norm",
        "bias-only",
        "surgical:stages=stem",
        FIRST_CONVOLUTION_AND_HEAD,
    ],
)
def test_a_real_model_under_its_stock_figure(name: str) -> None:
    with fake_session(SMALL, spec_of(name, "resnet18")) as session:
        stock, _ = traced_memory(session)
        found = bound_of(session)
    assert 0 < found.bytes <= found.stock_bytes == stock.saved_activations_bytes
    assert sum(found.kept.values()) == found.bytes


def test_first_convolution_and_head_of_a_real_model() -> None:
    with fake_session(SMALL, spec_of(FIRST_CONVOLUTION_AND_HEAD, "resnet18")) as session:
        found = bound_of(session)
    maps = 64 * 32**2 + 4 * 64 * 16**2 + 4 * 128 * 8**2 + 4 * 256 * 4**2 + 4 * 512 * 2**2
    assert found.kept["Relu"] == 2 * maps // 8
    assert found.kept["MaxPool2DWithIndices"] == 2 * 64 * 16**2 * 4 // 8


def test_converted_norms_are_told_apart() -> None:
    assert frozen_batch_norm.frozen_batch_norm(SMALL, "batch-norm")["status"] == "ok"
    assert frozen_batch_norm.frozen_batch_norm(SMALL, "full") == {"status": "does not apply"}
    for fused in ("timm:test_efficientnet", "timm:regnety_002"):  # the latter's branches begin at 0
        found = frozen_batch_norm.frozen_batch_norm(
            Workload(fused, batch_size=2, image_size=64), "surgical:stages=stem"
        )
        assert found["status"] == "wrong output"


def test_records_add_to_a_row_and_keep_the_order(tmp_path: Path) -> None:
    records = Records(tmp_path / "rows.json")
    records.put("regnety_016", "full", status="ok")
    records.put("resnet50", "full", compiled={"graphs": 1})
    records.put("resnet50", "full", status="ok")
    first, second = records.read()["rows"]
    assert first == {
        "model": "resnet50",
        "strategy": "full",
        "spec": "full",
        "compiled": {"graphs": 1},
        "status": "ok",
    }
    assert second["model"] == "regnety_016"


def test_targets_that_are_missed() -> None:
    row = {
        "model": "resnet50",
        "strategy": "bias-only",
        "stock": {"saved_activations_bytes": 100, "peak_bytes": 200},
        "lean": {"saved_activations_bytes": 8, "peak_bytes": 201},
        "bound_bytes": 5,
    }
    verdicts = dict(checked([row]))
    assert verdicts["resnet50, bias-only: at most 8% of stock saved activations"] == "ok 8.00%"
    assert verdicts["1 rows: lean has no more peak than stock"].startswith("MISSED 1")
    assert verdicts["lean within 10% of the bound"].startswith("no, in 1")
