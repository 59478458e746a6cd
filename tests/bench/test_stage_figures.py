"""What strategies do to stages, as a result file tells it."""

from __future__ import annotations

import dataclasses

import pytest

from freezekit.bench.stage_figures import staged_view
from freezekit.bench.static import static_figures
from freezekit.plugins.registering import default_registry
from freezekit.results.records import Workload

RESNET = Workload("torchvision:resnet18", batch_size=2, image_size=64)


def test_a_row_tells_stage_by_stage_what_is_done() -> None:
    staged = staged_view(RESNET, default_registry())
    figures = static_figures(RESNET, "first-n-stages:n=1", staged=staged)
    found = figures.stages
    assert [stage.name for stage in found] == [
        "stem", "layer1", "layer2", "layer3", "layer4", "head",
    ]  # fmt: skip
    assert [stage.trainable == 0 for stage in found] == [True, True, False, False, False, False]
    assert [stage.held_in_eval == stage.modules for stage in found[:3]] == [True, True, False]
    assert sum(stage.parameters for stage in found) == figures.parameters.total
    assert sum(stage.trainable for stage in found) == figures.parameters.trainable
    assert figures.flops is not None
    counted = [stage.forward_flops for stage in found]
    assert sum(flops or 0 for flops in counted) == figures.flops.forward
    assert counted[0] == 2 * 2 * 64 * 32 * 32 * 3 * 49  # a convolution of 7 x 7
    without = static_figures(RESNET, "first-n-stages:n=1")
    assert without == dataclasses.replace(figures, stages=())


def test_norms_held_in_eval_are_a_part_of_each_stage() -> None:
    staged = staged_view(RESNET, default_registry())
    stem, *_, head = static_figures(RESNET, "batch-norm", staged=staged, lean=True).stages
    assert (stem.held_in_eval, stem.modules) == (1, 4)
    assert 0 < stem.trainable < stem.parameters
    assert head.trainable == head.parameters


def test_a_model_of_fixed_size_and_one_that_needs_numbers() -> None:
    vit = Workload("timm:test_vit", batch_size=2, pretrained=True, device="cuda")
    staged = staged_view(vit, default_registry())
    assert staged is not None
    detection = Workload(
        "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn", batch_size=1, image_size=64
    )
    staged = staged_view(detection, default_registry())
    figures = static_figures(detection, "first-n-stages:n=2", staged=staged)
    assert figures.stages[0].trainable == 0
    assert {stage.forward_flops for stage in figures.stages} == {None}


@pytest.mark.parametrize("model", ["torchvision:no_such_model", "no_such_file.py:factory"])
def test_what_cannot_be_staged_is_no_reason_to_fail(model: str) -> None:
    assert staged_view(Workload(model), default_registry()) is None
