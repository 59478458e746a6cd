"""What is said of workspace, beside what torch's allocator saw."""

from __future__ import annotations

import pytest

from freezekit.bench.memory import measured_figures
from freezekit.bench.static import predicted_memory, static_figures
from freezekit.results.records import Workload
from freezekit.results.variant import Variant
from tests.sampled import exhaustive

SMALL = "timm:test_resnet"


@pytest.mark.parametrize(
    ("model", "variant", "batch"),
    [
        (SMALL, Variant("full"), 20),
        exhaustive((SMALL, Variant("head-only"), 20)),
        exhaustive(("torchvision:resnet18", Variant("head-only"), 2)),
        ("torchvision:resnet18", Variant("bias-only", lean=True), 2),
        exhaustive(("torchvision:shufflenet_v2_x0_5", Variant("full"), 16)),
        (SMALL, Variant("full", lean=True), 200),  # its peak is in a batch norm
        exhaustive((SMALL, Variant("bias-only", lean=True), 200)),
        exhaustive(("timm:convnext_atto", Variant("full"), 4)),
        ("timm:convnext_atto", Variant("bias-only", lean=True), 4),
        exhaustive(("timm:regnety_002", Variant("full"), 4)),
        ("timm:test_vit", Variant("full"), 15),  # a kernel of 16 places, without code of its own
        ("timm:test_mambaout", Variant("full"), 122),  # parts of tensors, which are copied
        ("timm:test_convnext", Variant("full"), 130),  # images of one place, which have two layouts
    ],
    ids=str,
)
def test_a_peak_is_predicted_with_the_workspace_that_the_allocator_sees(model, variant, batch):
    pixels = {"timm:test_vit": 32, "timm:test_mambaout": 48, "timm:test_convnext": 48}
    workload = Workload(model, batch_size=batch, image_size=pixels.get(model, 64))
    real = measured_figures(workload, variant.spec, lean=variant.lean)
    predicted = predicted_memory(workload, variant, None)
    assert 0.999 <= predicted.peak_bytes / real.peak_bytes <= 1.005


def test_it_is_not_in_what_bench_predicts():
    workload = Workload(SMALL, batch_size=20, image_size=64)
    plain = static_figures(workload, "head-only").memory
    assert plain.workspace_bytes is None
    assert plain.peak_bytes == plain.predicted_peak_bytes
    counted = predicted_memory(workload, Variant("head-only"), None)
    assert counted.predicted_peak_bytes == plain.peak_bytes
    assert counted.peak_bytes == plain.peak_bytes + counted.workspace_bytes > plain.peak_bytes
