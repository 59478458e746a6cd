"""What is wrapped, scripted, traced or no model at all: taken, or refused with advice."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import TYPE_CHECKING

import pytest
import torch
from torch import distributed, nn
from torch.distributed.fsdp import fully_shard
from torchvision.models import resnet18

from freezekit import (
    Backbone,
    FreezeError,
    ModelError,
    StagingError,
    freeze_,
    load_backbone,
    plan,
    verify_model,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning"
)


@pytest.fixture
def one_rank(tmp_path: Path) -> Iterator[None]:
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1
    )
    yield
    distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("resnet18", r"is str 'resnet18', expected a torch.nn.Module; build one, .*load_backbone"),
        (resnet18, r"is function <function resnet18.*; call it, and give the model"),
        (nn.Linear, r"is type <class .*; give an object of this class, such as Linear\("),
        (None, "is NoneType None, expected a torch.nn.Module"),
    ],
)
def test_what_is_no_model_is_told_so(given: object, text: str) -> None:
    for act in (freeze_, plan):
        with pytest.raises(ModelError, match=text):
            act(given, "head-only")


def test_a_view_is_planned_and_not_frozen() -> None:
    view = Backbone(load_backbone("torchvision:resnet18", device="meta"))
    assert plan(view, "head-only").frozen
    with pytest.raises(ModelError, match="is Backbone"):
        freeze_(view, "head-only")


@pytest.mark.usefixtures("one_rank")
def test_a_wrapped_model_is_refused_and_unchanged() -> None:
    model = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
    text = "DistributedDataParallel around a Sequential.* freeze the module before wrapping it"
    for given in (model, nn.Sequential(model)):
        with pytest.raises(FreezeError, match=text):
            freeze_(given, "by-name:contains=0.")
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.usefixtures("one_rank")
def test_a_plan_made_before_is_applied_to_a_sharded_model() -> None:
    model = resnet18(num_classes=5)
    decided = plan(model, "first-n-stages:n=1")
    fully_shard(model)
    with pytest.raises(StagingError, match=r"sharded over processes.*decided = plan\(model, spec"):
        freeze_(model, "first-n-stages:n=1")
    frozen = freeze_(model, decided)
    assert {n for n, p in model.named_parameters() if not p.requires_grad} == decided.frozen
    frozen.undo()
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    "change", [lambda m: m, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_a_held_model_is_not_scripted(change: object) -> None:
    frozen = freeze_(resnet18(num_classes=5), "first-n-stages:n=1")
    model = change(frozen.backbone.model)
    for given in (model, nn.Sequential(model), model.layer1, model.bn1):
        with pytest.raises(FreezeError, match=r"would lose the hold.*decided = plan\(model, spec"):
            torch.jit.script(given)
    torch.jit.script(model.layer4)
    frozen.undo()
    torch.jit.script(frozen.backbone.model)


def test_a_plan_made_before_is_applied_to_a_scripted_model() -> None:
    model = resnet18(num_classes=5)
    decided = plan(model, "first-n-stages:n=1")
    scripted = torch.jit.script(model)
    with pytest.raises(StagingError, match=r"is a ScriptModule .*decided = plan\(model, spec"):
        freeze_(scripted, "first-n-stages:n=1")
    frozen = freeze_(scripted, decided)
    before = scripted.bn1.running_mean.clone()
    scripted.train()(torch.randn(2, 3, 64, 64)).sum().backward()
    assert torch.equal(scripted.bn1.running_mean, before)
    assert scripted.conv1.weight.grad is None
    frozen.undo()
    scripted.train()(torch.randn(2, 3, 64, 64))
    assert not torch.equal(scripted.bn1.running_mean, before)


def test_a_plan_made_before_is_applied_to_a_model_with_a_scripted_part() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))
    image = torch.randn(2, 3, 8, 8)
    decided = plan(model, "head-only", example_input=image)
    model[1] = torch.jit.script(model[1])
    advice = r"'1' in this Sequential is a ScriptModule .*script the part, then freeze_\(model"
    with pytest.raises(StagingError, match=advice):
        freeze_(model, "head-only", example_input=image)
    frozen = freeze_(model, decided)
    for verified in (lambda: frozen.verify(image), lambda: verify_model(model, image)):
        with pytest.raises(ModelError, match=r"'1' in this Sequential .* before it is scripted"):
            verified()
    frozen.undo()
    model[0].requires_grad_(False)  # by hand
    with pytest.raises(ModelError, match=r"'1' in this Sequential .* before it is scripted"):
        verify_model(model, image)


def test_a_traced_model_is_refused_and_a_frozen_one_is_traced() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))
    image = torch.randn(2, 3, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(model, image, check_trace=False)
    with pytest.raises(FreezeError, match=r"made by torch\.jit\.trace, which fixes the modes"):
        freeze_(traced, "batch-norm")
    freeze_(model, "batch-norm")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(model.train(), image)
    buffers = dict(traced.named_buffers())
    before = buffers["1.running_mean"].clone()
    traced.train()(image)
    assert torch.equal(buffers["1.running_mean"], before)
