"""Adapters of PEFT: a spec freezes what it names, the base stays frozen, and both are said."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pytest
import timm
import torch
from peft import LoraConfig, get_peft_model
from transformers import Trainer

from freezekit import Backbone, FreezeError, FreezekitWarning, freeze_
from freezekit.integrations.hugging_face import FreezeCallback
from tests.integrations.hugging_face_training import arguments, equal, fit, vit

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

# PEFT asks transformers by the older name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")


def lora(model: nn.Module, targets: list[str], head: str) -> Any:
    torch.manual_seed(3)
    options = {"r": 2, "lora_dropout": 0.1, "modules_to_save": [head]}
    return get_peft_model(model, LoraConfig(target_modules=targets, **options))


def vit_with_lora() -> Any:
    return lora(vit(), ["q_proj", "v_proj"], "classifier")


def timm_with_lora() -> Any:
    return lora(timm.create_model("test_vit", num_classes=3), ["qkv"], "head")


def trained(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def moved(model: nn.Module, size: int) -> set[str]:
    """Train two steps, and return what has moved."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(2):
        out = model.train()(torch.rand(2, 3, size, size))
        getattr(out, "logits", out).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    after = model.state_dict()
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


@pytest.mark.parametrize(("build", "size"), [(vit_with_lora, 32), (timm_with_lora, 160)])
def test_adapters_stay_trainable_and_the_base_frozen(build: Any, size: int) -> None:
    model = build()
    adapters = trained(model)
    frozen = freeze_(model, "full")
    assert trained(model) == adapters
    assert moved(model, size) == adapters
    assert any(".modules_to_save." in name for name in adapters)
    assert "arrived with requires_grad=False and stay frozen" in " ".join(frozen.report().split())
    assert frozen.verify().passed
    bodies = [stage for stage in Backbone(model).stages if stage.kind == "body"]
    assert all(any("lora_A" in name for name in stage.parameters) for stage in bodies)


@pytest.mark.parametrize(("build", "size"), [(vit_with_lora, 32), (timm_with_lora, 160)])
def test_a_spec_freezes_the_adapters_in_what_it_names_and_says_it(build: Any, size: int) -> None:
    model = build()
    adapters = trained(model)
    with pytest.warns(FreezekitWarning, match=r"as adapters such as LoRA are: .*lora_A"):
        frozen = freeze_(model, "first-n-stages:n=1")
    (first, *_) = (stage for stage in frozen.backbone.stages if stage.kind == "body")
    left = adapters - set(first.parameters)
    assert len(left) < len(adapters)
    assert trained(model) == left
    assert moved(model, size) == left
    assert frozen.verify().passed
    frozen.undo()
    assert trained(model) == adapters


def test_adapters_that_are_put_on_a_frozen_model_are_noticed() -> None:
    model = vit()
    frozen = freeze_(model, "first-n-stages:n=1")
    around = lora(model, ["q_proj"], "classifier")
    assert "new parameter(s) are trained" in " ".join(frozen.report().split())
    with pytest.raises(FreezeError, match="inside this PeftModel was frozen on its own"):
        freeze_(around, "full")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the spec freezes 12 parameter")
def test_adapters_under_a_schedule_are_resumed(tmp_path: Path) -> None:
    text = "head-only then full at 1ep"
    options: dict[str, Any] = {"save_strategy": "epoch", "label_names": ["labels"]}
    model = vit_with_lora()
    base = {n: p.clone() for n, p in model.named_parameters() if not p.requires_grad}
    callback = FreezeCallback(text)
    fit(callback, tmp_path / "whole", model=model, **options)
    assert callback.run is not None
    assert [len(done.change.thawed) for done in callback.run.transitions] == [12]
    after = dict(model.named_parameters())
    assert all(torch.equal(value, after[name]) for name, value in base.items())
    again = vit_with_lora()
    path = tmp_path / "whole" / "checkpoint-4"
    fit(FreezeCallback(text), tmp_path / "again", model=again, resume=path, **options)
    assert equal(again, model)


class WithReference(Trainer):
    """Asks the base in each step, as a loss that compares with it does."""

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **options: Any) -> Any:
        with torch.no_grad(), model.disable_adapter():
            model(**inputs)
        return super().compute_loss(model, inputs, *args, **options)


class WithItsFlags(Trainer):
    """Does as docs/guides/peft.md says."""

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **options: Any) -> Any:
        flags = [(p, p.requires_grad) for p in model.parameters()]
        with torch.no_grad(), model.disable_adapter():
            model(**inputs)
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        return super().compute_loss(model, inputs, *args, **options)


@pytest.mark.filterwarnings("ignore:the spec freezes")
def test_adapters_that_peft_thaws_in_a_step_are_told(tmp_path: Path) -> None:
    options: dict[str, Any] = {"label_names": ["labels"], "has_optimizer": True}
    callback = FreezeCallback("first-n-stages:n=2")
    with pytest.warns(FreezekitWarning, match="that the plan freezes are trained: .*lora_A"):
        fit(callback, tmp_path, model=vit_with_lora(), of=WithReference, **options)
    model = vit_with_lora()
    before = {name: p.clone() for name, p in model.named_parameters()}
    callback = FreezeCallback("first-n-stages:n=2")
    fit(callback, tmp_path, model=model, of=WithItsFlags, **options)
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved
    assert not moved & callback.frozen.plan.frozen


@pytest.mark.filterwarnings("ignore:the spec freezes")
def test_a_base_that_is_trained_and_not_saved_is_told(tmp_path: Path) -> None:
    args = arguments(tmp_path)
    with pytest.warns(FreezekitWarning, match="PEFT saves adapters alone: checkpoints and save_mo"):
        Trainer(vit_with_lora(), args, callbacks=[FreezeCallback("head-only", thaw=True)])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Trainer(vit_with_lora(), args, callbacks=[FreezeCallback("full")])
        Trainer(vit(), args, callbacks=[FreezeCallback("first-n-stages:n=1", thaw=True)])
    assert not [str(each.message) for each in caught if "PEFT saves" in str(each.message)]
