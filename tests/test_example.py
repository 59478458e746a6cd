"""The example module of a user, frozen by name and by type."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from freezekit import Backbone, FreezekitWarning, freeze_, load_backbone

MODEL = str(Path(__file__).parents[1] / "examples" / "sliced_resnet.py") + ":factory"


def test_by_name_sets_exactly_the_flags_of_the_loop_and_says_what_it_missed() -> None:
    model = load_backbone(MODEL, device="meta")
    with pytest.warns(FreezekitWarning, match=r"5 of 53 norm layers .*convnet_1\.1"):
        freeze_(model, "by-name:contains=bn")
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == ("bn" not in name), name
    assert model.convnet_1[1].weight.requires_grad
    assert model.convnet_1[4][0].downsample[1].weight.requires_grad


def test_batch_norm_gets_all_53() -> None:
    model = load_backbone(MODEL, device="meta")
    assert len(freeze_(model, "batch-norm").plan.eval_modules) == 53


def test_its_stages_follow_the_forward() -> None:
    stages = Backbone(load_backbone(MODEL, device="meta")).stages
    assert [stage.kind for stage in stages] == ["stem", "body", "body", "body", "body", "head"]
    assert stages[0].parameters[:2] == ("convnet_1.0.weight", "convnet_1.1.weight")
    assert stages[-1].parameters == ("linear.weight", "linear.bias")


def test_a_frozen_prefix_trains() -> None:
    model = load_backbone(MODEL)
    frozen = freeze_(model, "first-n-stages:n=3")
    _, output, _ = model.train()(torch.randn(2, 3, 32, 32))
    output.sum().backward()
    trained = [p for g in frozen.param_groups(lr=0.1) for p in g["params"]]
    assert all(p.grad is not None for p in trained)
