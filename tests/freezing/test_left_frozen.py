"""What arrives frozen stays frozen, and is named where that matters."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from freezekit import FreezekitWarning, FreezePlan, PlanError, freeze_, plan
from freezekit_strategies import FirstNStages

if TYPE_CHECKING:
    from pathlib import Path

    from freezekit import Strategy


@pytest.fixture
def model() -> nn.Module:
    return resnet18(num_classes=5)


def still(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if not p.requires_grad}


@pytest.mark.parametrize(
    "spec",
    ["first-n-stages:n=1", FirstNStages(n=1), FreezePlan({"conv1.weight"})],
    ids=["text", "strategy", "plan"],
)
def test_what_arrives_frozen_stays_frozen_whatever_is_given(
    model: nn.Module, spec: str | Strategy | FreezePlan
) -> None:
    by_hand = {f"layer3.{name}" for name, _ in model.layer3.named_parameters()}
    model.layer3.requires_grad_(False)
    frozen = freeze_(model, spec)
    assert by_hand < frozen.plan.frozen == still(model)
    assert any(
        note.startswith(f"{len(by_hand)} parameters ('layer3.0") for note in frozen.plan.notes
    )
    assert "stay frozen; thaw=True trains what the spec does not freeze" in " ".join(
        frozen.report().split()
    )
    assert not model.train().layer3[0].bn1.training  # frozen means frozen: its statistics stay
    frozen.undo()
    assert still(model) == by_hand
    assert model.train().layer3[0].bn1.training
    freeze_(model, spec, thaw=True)
    assert not by_hand & still(model)
    assert model.train().layer3[0].bn1.training


def test_the_first_arrival_counts_on_a_frozen_model(model: nn.Module) -> None:
    model.layer3.requires_grad_(False)
    freeze_(model, "last-n-stages:n=1")
    with pytest.warns(FreezekitWarning, match="optimizer"):
        freeze_(model, "first-n-stages:n=1")
    assert {name.partition(".")[0] for name in still(model)} == {"conv1", "bn1", "layer1", "layer3"}


def test_plan_tells_the_same_as_freeze(model: nn.Module) -> None:
    model.conv1.weight.requires_grad_(False)
    decided = plan(model, "full")
    assert decided.frozen == {"conv1.weight"}
    assert decided.eval_modules == {"conv1"}
    assert decided.notes == (
        "1 parameter ('conv1.weight') arrived with requires_grad=False and stays frozen; thaw=True "
        "trains what the spec does not freeze",
    )
    assert plan(model, "full", thaw=True) == FreezePlan(eval_modules=())
    assert freeze_(model, decided).plan.notes == decided.notes


def test_live_statistics_that_a_strategy_asks_for_stay_live(model: nn.Module) -> None:
    model.layer1[0].conv1.requires_grad_(False)
    held = plan(model, "batch-norm:statistics=live").eval_modules
    assert held == {"layer1.0.conv1"}


def test_a_model_that_is_frozen_throughout_says_what_to_do(model: nn.Module) -> None:
    model.requires_grad_(False)
    with pytest.raises(PlanError, match=r"all of ResNet arrived frozen: 62 .* give thaw=True"):
        freeze_(model, "full")
    assert freeze_(model, "head-only", thaw=True).plan.frozen == still(model)
    assert len(still(model)) == 60


def test_a_head_that_arrived_frozen_is_an_error_or_a_warning(model: nn.Module) -> None:
    model.fc.requires_grad_(False)
    with pytest.raises(PlanError, match=r"all that the spec would train of ResNet .*'fc.weight'"):
        freeze_(model, "head-only")
    model.fc = nn.Sequential(model.fc, nn.Linear(5, 5))
    with pytest.warns(FreezekitWarning, match=r"of 4 .* 2 parameters \('fc.0.* give thaw=True"):
        freeze_(model, "head-only")


class Lora(nn.Module):
    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base.requires_grad_(False)
        self.lora_a = nn.Linear(base.in_features, 1, bias=False)
        self.lora_b = nn.Linear(1, base.out_features, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base_layer(x) + self.lora_b(self.lora_a(x))


def adapted() -> nn.Sequential:
    net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    net[0], net[2] = Lora(net[0]), Lora(net[2])
    return net


def test_adapters_stay_trainable_and_their_base_frozen() -> None:
    net = adapted()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        freeze_(net, "full")
    assert still(net) == {f"{i}.base_layer.{what}" for i in (0, 2) for what in ("weight", "bias")}


def test_adapters_that_a_spec_would_freeze_are_named() -> None:
    net = adapted()
    with pytest.warns(FreezekitWarning, match=r"2 parameter.*'0.lora_a.weight', '0.lora_b.weight'"):
        freeze_(net, "by-name:glob=0.*")


def test_norms_and_stages_frozen_by_hand_are_no_adapters(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(False)
    model.layer3.requires_grad_(False)
    assert plan(model, "first-n-stages:n=2").warnings == ()


def test_show_has_a_line_for_them(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from torchvision.models import resnet18\n"
        "def build():\n"
        "    model = resnet18()\n"
        "    model.layer4[0].conv1.requires_grad_(False)\n"
        "    return model\n"
    )
    command = [sys.executable, "-m", "freezekit", "show", f"{tmp_path}/own.py:build"]
    done = subprocess.run(
        [*command, "-s", "first-n-stages:n=1", "--json"], capture_output=True, text=True, check=True
    )
    (note,) = json.loads(done.stdout)["plan"]["notes"]
    assert "'layer4.0.conv1.weight'" in note
