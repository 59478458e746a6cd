"""timm's optimizers, schedulers, averages and train.py with a frozen model."""

from __future__ import annotations

import math
import re
import runpy
import subprocess
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3, NativeScaler
from torch import Tensor, nn
from torch.nn import functional

from freezekit import FreezeError, FreezePlan, freeze_, plan

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "timm.md").read_text()
EXCERPT = Path(__file__).parent / "timm_train.txt"
HEAD_ONLY, HALVES = "head-only", "discriminative-lr:decay=0.5"


def block(language: str) -> str:
    (code,) = re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
    return code


def net() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=3)


def bits(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def put_by_hand(model: nn.Module, wanted: FreezePlan) -> None:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in wanted.frozen)
    model.train()
    for name in wanted.eval_modules or ():
        model.get_submodule(name).train(False)


def hand_made_training() -> nn.Module:
    """The training of the guide in plain PyTorch: flags, modes and rates are set by hand."""
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=3)
    plans = [plan(deepcopy(model), spec) for spec in (HEAD_ONLY, HALVES)]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p], "name": name, "weight_decay": 0.05 if p.ndim > 1 else 0.0}
            for name, p in model.named_parameters()
        ]
    )
    mixup, criterion = Mixup(mixup_alpha=0.2, num_classes=3), SoftTargetCrossEntropy()
    for epoch in range(3):
        put_by_hand(model, plans[min(epoch, 1)])
        for step in range(4):
            done = 4 * epoch + step
            for group in optimizer.param_groups:
                scale = plans[min(epoch, 1)].lr_scales.get(group["name"], 1.0)
                group["lr"] = 0.5 * (1e-3 * scale) * (1 + math.cos(math.pi * done / 12))
            for _ in range(2):
                images, labels = mixup(torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 2, 0]))
                (criterion(model(images), labels) / 2).backward()
            optimizer.step()
            optimizer.zero_grad()
    return model


def test_the_training_of_the_guide_has_the_bits_of_one_made_by_hand(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names: dict[str, Any] = {}
    for made in ("guide", "hand"):
        np.random.seed(0)  # timm's Mixup draws from it
        torch.manual_seed(0)
        if made == "guide":
            exec(block("python"), names)
        else:
            by_hand = hand_made_training()
    assert moved(bits(names["model"]), bits(by_hand)) == set()
    assert "12 step(s), 3 of 3 epoch(s), 1 change(s) of plan" in capsys.readouterr().out
    assert names["frozen"].verify(optimizer=names["optimizer"]).passed
    assert not any("lr_scale" in group for group in names["optimizer"].param_groups)


@pytest.mark.parametrize("by_step", [True, False])
def test_a_multiplier_counts_once_beside_lr_scale(by_step: bool) -> None:
    """Of groups that timm made, with a change of plan in the middle of a timm schedule."""
    rates: dict[bool, list[dict[str, float]]] = {}
    for is_changed in (True, False):
        model = net()
        optimizer = create_optimizer_v2(model, "sgd", lr=0.1, layer_decay=0.5)
        assert {g["lr_scale"] for g in optimizer.param_groups} > {1.0, 0.5}
        frozen = freeze_(model, "full")
        scheduler, _ = create_scheduler_v2(
            optimizer,
            num_epochs=6,
            warmup_epochs=2,
            warmup_lr=0.0,
            step_on_epochs=not by_step,
            updates_per_epoch=1,
        )
        rates[is_changed] = []
        for done in range(5):
            optimizer.step()
            scheduler.step_update(done + 1)
            scheduler.step(done + 1)
            if done == 2 and is_changed:
                halved = FreezePlan(lr_scales=dict.fromkeys(dict(model.named_parameters()), 0.5))
                frozen.change_(halved, optimizer, [scheduler])
            names = {id(p): name for name, p in model.named_parameters()}
            rates[is_changed].append(
                {names[id(p)]: g["lr"] for g in optimizer.param_groups for p in g["params"]}
            )
    for done, (changed, plain) in enumerate(zip(rates[True], rates[False], strict=True)):
        scale = 1.0 if done < 2 else 0.5
        assert changed == pytest.approx({name: scale * rate for name, rate in plain.items()})


@pytest.mark.filterwarnings("ignore:PlateauLRScheduler is deprecated")
def test_the_floor_of_a_plateau_schedule_of_timm_is_scaled() -> None:
    model = net()
    frozen = freeze_(model, "full")
    optimizer = create_optimizer_v2(
        model, "sgd", param_group_fn=lambda _: frozen.param_groups(0.1, all_phases=HALVES)
    )
    plateau, _ = create_scheduler_v2(
        optimizer, "plateau", min_lr=0.04, patience_epochs=0, noise=[0.5, 0.9], num_epochs=8
    )
    plateau.step(1, 1.0)
    plateau.step(5, 1.0)  # within the noise: the rates without it are put back later
    frozen.change_(HALVES, optimizer, [plateau])
    for epoch in range(8, 12):
        plateau.step(epoch, 1.0)
    floors = {g["freezekit_lr_multiplier"]: g["lr"] for g in optimizer.param_groups}
    assert floors == pytest.approx({m: 0.04 * m for m in floors})
    assert len(floors) > 2


def test_an_optimizer_of_the_trained_parameters_alone_is_refused_for_a_schedule() -> None:
    model = net()
    frozen = freeze_(model, HEAD_ONLY)
    alone = create_optimizer_v2(model, "adamw", lr=1e-3, weight_decay=0.05)
    assert sum(len(g["params"]) for g in alone.param_groups) == 2
    with pytest.raises(FreezeError, match="does not hold"):
        frozen.follow("head-only then full at 1ep", alone, epochs=2)


def test_steps_that_the_scaler_skips_are_not_counted() -> None:
    model = net()
    frozen = freeze_(model, "full")
    groups = frozen.param_groups(1e-3, all_phases=True)
    optimizer = create_optimizer_v2(model, "adamw", param_group_fn=lambda _: groups)
    run = frozen.follow("head-only then full at 2step", optimizer, epochs=2)
    scaler = NativeScaler(device="cpu")
    model.train()
    counted: list[tuple[int, set[str]]] = []
    before = bits(model)
    for factor in (1.0, math.inf, 1.0, 1.0):
        loss = functional.cross_entropy(model(torch.rand(3, 3, 32, 32)), torch.arange(3))
        scaler(loss * factor, optimizer, clip_grad=1.0, parameters=model.parameters())
        optimizer.zero_grad()
        run.step()
        counted.append((run.progress.step, moved(before, bits(model))))
    assert [step for step, _ in counted] == [1, 1, 2, 3]
    assert [names for _, names in counted[:3]] == [{"fc.weight", "fc.bias"}] * 3
    assert counted[3][1] >= {"conv1.0.weight", "fc.weight"}


def test_an_average_keeps_what_is_frozen_and_follows_what_is_thawed() -> None:
    model = net()
    frozen = freeze_(model, "full")
    optimizer = torch.optim.SGD(frozen.param_groups(0.1, all_phases=True), momentum=0.9)
    run = frozen.follow("first-n-stages:n=2 then full at 1ep", optimizer, epochs=2)
    averages = [ModelEmaV3(model, decay=0.9, foreach=foreach) for foreach in (True, False)]
    for epoch in range(2):
        held = {name for name, _ in model.named_parameters() if name in frozen.plan.frozen}
        held |= {
            f"{module}.{name}"
            for module in frozen.plan.eval_modules or ()
            for name, _ in model.get_submodule(module).named_buffers(recurse=False)
        }
        before = bits(model)
        for _ in range(2):
            model.train()
            functional.cross_entropy(model(torch.rand(3, 3, 32, 32)), torch.arange(3)).backward()
            optimizer.step()
            optimizer.zero_grad()
            for average in averages:
                average.update(model)
            run.step()
        for average in averages:
            assert not moved(before, bits(average.module)) & held
            assert not moved(bits(model), bits(average.module)) & held
        assert bool(held) is (epoch == 0)
        run.epoch()
    assert moved(bits(model), bits(averages[0].module)) >= dict(model.named_parameters()).keys()
    assert frozen.verify(torch.rand(2, 3, 32, 32)).passed


@pytest.mark.parametrize("options", [(), ("--sched-on-updates", "--val-interval", "2", "--lean")])
def test_the_patch_of_train_py_freezes_follows_and_resumes(
    options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an excerpt with the lines that the patch needs, as train.py is not in timm's package."""
    script = tmp_path / "train.py"
    script.write_text(EXCERPT.read_text())
    (tmp_path / "freeze.patch").write_text(block("diff"))
    subprocess.run(["git", "apply", "freeze.patch"], cwd=tmp_path, check=True)
    schedule = "head-only then first-n-stages:n=2 + discriminative-lr:decay=0.5 at 6step"

    def train(folder: str, *more: str) -> dict[int, dict[str, Any]]:
        (tmp_path / folder).mkdir()
        given = ["--model", "test_resnet", "--epochs", "5", "--opt", "adamw", "--lr", "1e-2"]
        given += ["--weight-decay", "0.05", "--output", str(tmp_path / folder)]
        given += ["--freeze", schedule, *options, *more]
        monkeypatch.setattr("sys.argv", [str(script), *given])
        runpy.run_path(str(script), run_name="__main__")
        files = (tmp_path / folder).glob("checkpoint-*.pth.tar")
        return {
            found["epoch"]: found for f in files for found in [torch.load(f, weights_only=False)]
        }

    whole = train("whole")
    first = min(whole)
    resumed = train("again", "--resume", str(tmp_path / "whole" / f"checkpoint-{first}.pth.tar"))
    assert resumed.keys() == whole.keys() - {first}
    last = whole[4]
    for key in ("state_dict", "state_dict_ema"):
        assert moved(last[key], resumed[4][key]) == set()
    assert last["optimizer"]["param_groups"] == resumed[4]["optimizer"]["param_groups"]
    assert last["args"].freeze_state["step"] == 20
    changed = moved(whole[first]["state_dict"], last["state_dict"])
    assert not {name for name in changed if name.startswith(("conv1", "bn1", "layer1"))}
    assert {name for name in changed if name.startswith("layer3")}
    multipliers = {g["freezekit_lr_multiplier"] for g in last["optimizer"]["param_groups"]}
    assert multipliers == {1.0, 0.5, 0.25}
