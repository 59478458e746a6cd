"""A training step made from a workload: input, loss, and what is said when that fails."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from msgspec.structs import replace

from freezekit import ModelError
from freezekit.bench.workload import build, describe_workload
from freezekit.results.records import Workload

EXAMPLE = str(Path(__file__).parents[2] / "examples" / "sliced_resnet.py")
TINY = Workload("timm:test_resnet", batch_size=2, image_size=32)


def test_a_step_changes_what_is_trained_and_keeps_no_loss() -> None:
    session = build(TINY, "head-only")
    before = {k: v.clone() for k, v in session.model.state_dict().items()}
    session.step()
    moved = {k for k, v in session.model.state_dict().items() if not torch.equal(before[k], v)}
    assert moved == {"fc.weight", "fc.bias"}


def test_lean_is_another_memory_and_the_same_step() -> None:
    trained = []
    for lean in (False, True):
        session = build(TINY, "batch-norm", lean=lean)
        assert session.frozen.lean is lean
        session.step()
        trained.append(session.model.state_dict())
    stock, lean_too = trained
    assert all(torch.equal(stock[name], lean_too[name]) for name in stock)


def test_the_seed_fixes_weights_images_and_labels() -> None:
    losses = [build(replace(TINY, seed=seed), "full").loss().item() for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "adam"])
def test_options_reach_the_step(optimizer: str) -> None:
    workload = replace(TINY, optimizer=optimizer, channels_last=True, amp="bfloat16")
    session = build(workload, "full")
    assert session.inputs[0].is_contiguous(memory_format=torch.channels_last)
    assert session.model.conv1[0].weight.is_contiguous(memory_format=torch.channels_last)
    session.step()
    assert type(session.optimizer).__name__.lower() == optimizer


def test_dtype_is_that_of_weights_and_images() -> None:
    session = build(replace(TINY, dtype="bfloat16"), "full")
    assert session.inputs[0].dtype == next(session.model.parameters()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("model", "size"),
    [("timm:vit_tiny_patch16_224", 64), ("torchvision:vit_b_32", 64), ("torchvision:vgg11", 64)],
)
def test_models_of_a_fixed_size_are_told_another_one(model: str, size: int) -> None:
    described = describe_workload(Workload(model, batch_size=2, image_size=size))
    assert described.input_shape == (2, 3, size, size)


def test_the_models_own_size_is_the_default() -> None:
    assert describe_workload(Workload("timm:tf_efficientnet_lite4")).image_size == 380


@pytest.mark.parametrize(
    ("workload", "message"),
    [
        (Workload("torchvision:vit_b_16", image_size=100), "indivisible by patch size"),
        (
            Workload("torchvision:alexnet", image_size=16),
            r"does not take an input of shape \(8, 3, 16, 16\): .*; try another --image-size",
        ),
        (replace(TINY, loss="nowhere.py:loss"), "there is no file 'nowhere.py'"),
        (replace(TINY, loss=f"{EXAMPLE}:nothing"), "is no function"),
        (replace(TINY, loss=f"{EXAMPLE}:SlicedResNet"), "SlicedResNet' "),
        (Workload("torch.nn:Flatten"), "has no parameters"),
    ],
)
def test_what_cannot_be_run_is_refused(workload: Workload, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        describe_workload(workload)


def test_a_model_of_a_size_of_its_own_is_staged_on_the_given_input(tmp_path: Path) -> None:
    (tmp_path / "fixed.py").write_text(
        "from torch import nn\n"
        "def build(): return nn.Sequential(\n"
        "    nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 48 * 48, 5))"
    )
    workload = Workload(f"{tmp_path}/fixed.py:build", batch_size=2, image_size=48)
    assert build(workload, "head-only").frozen.plan.frozen == {"0.weight", "0.bias"}


def test_the_loss_of_the_example_is_made_from_its_logits() -> None:
    workload = Workload(f"{EXAMPLE}:factory", batch_size=2, image_size=64)
    described = describe_workload(workload)
    assert described.loss_text == ("cross-entropy over 64 classes of output 2 of 6, shape (2, 64)")
    own = replace(workload, loss=f"{EXAMPLE}:loss")
    assert describe_workload(own).loss_text == f"{EXAMPLE}:loss"
    build(own, "head-only").step()
