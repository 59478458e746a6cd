"""One act changes a live training: flags, modes, optimizer and schedulers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import timm.scheduler
import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel

from freezekit import FreezeError, FreezekitWarning, FreezePlan, PlanError, freeze_
from freezekit.freezing.eval_hold import HeldInEval
from freezekit.testing import MODELS
from freezekit.testing.models import images
from tests.schedules.training import CLASSES, OPTIMIZERS, Net, batch

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit.handle.frozen import Frozen

HEAD = "by-name:glob=fc.*,invert=true"
FIRST = "by-name:glob=stem.*|s1.*"
"""Specs by name, as these need no stages."""


def step(model: nn.Module, optimizer: torch.optim.Optimizer, i: int) -> float:
    images, labels = batch(i)
    model.train()
    loss = functional.cross_entropy(model(images), labels)
    optimizer.zero_grad(set_to_none=False)
    loss.backward()
    optimizer.step()
    return loss.item()


def frozen_net(spec: str = HEAD, **options: Any) -> tuple[Net, Frozen]:
    torch.manual_seed(0)
    model = Net()
    return model, freeze_(model, spec, **options)


def everything(frozen: Frozen, lr: float = 0.1, **options: Any) -> torch.optim.Optimizer:
    groups = frozen.param_groups(lr, 0.05, all_phases=options.pop("phases", True))
    return torch.optim.SGD(groups, momentum=0.9, **options)


def values(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def test_a_change_freezes_and_thaws_in_place_and_the_handle_stays() -> None:
    model, frozen = frozen_net()
    optimizer = everything(frozen)
    change = frozen.change_(FIRST, optimizer)
    assert change.frozen == ()
    assert set(change.thawed) == {
        n for n in dict(model.named_parameters()) if n[:2] in ("s2", "s3")
    }
    assert frozen.plan == change.plan
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained.isdisjoint(frozen.plan.frozen)
    model.train()
    modes = {name: module.training for name, module in model.named_modules()}
    assert not modes["stem.1"]
    assert modes["s2.1"]
    assert isinstance(vars(model.s1)["train"], HeldInEval)
    assert "train" not in vars(model.s2)
    back = frozen.change_(HEAD, optimizer)
    assert set(back.frozen) == set(change.thawed)
    assert not back.thawed
    frozen.undo()
    assert all(p.requires_grad for p in model.parameters())
    assert not any("train" in vars(module) for module in model.modules())


def test_a_change_to_the_same_plan_changes_nothing() -> None:
    _, frozen = frozen_net()
    optimizer = everything(frozen)
    before = repr(optimizer.param_groups)
    assert not frozen.change_(HEAD, optimizer)
    assert repr(optimizer.param_groups) == before


def test_the_view_is_kept_and_staged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    frozen = freeze_(Net(), "head-only")
    stages = frozen.backbone.stages
    monkeypatch.setattr("freezekit.staging.stages.stage_model", None)  # it would be called anew
    frozen.change_("first-n-stages:n=1", everything(frozen))
    assert frozen.backbone.stages is stages


def test_a_change_lets_lean_stay() -> None:
    model, frozen = frozen_net(lean=True)
    plain, other = frozen_net()
    for net, handle in ((model, frozen), (plain, other)):
        optimizer = everything(handle)
        torch.manual_seed(1)
        step(net, optimizer, 0)
        handle.change_(FIRST, optimizer)
        step(net, optimizer, 1)
    assert frozen.lean
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True)
    )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_is_frozen_keeps_every_bit_though_the_optimizer_holds_it(name: str) -> None:
    """Gradients are set to zero and not to None: momentum and decay would move the frozen."""
    model, frozen = frozen_net("full")
    optimizer = OPTIMIZERS[name](frozen.param_groups(0.01, 0.05, all_phases=True))
    for i in range(3):
        step(model, optimizer, i)
    change = frozen.change_(FIRST, optimizer)
    before = values(model)
    for i in range(3, 6):
        step(model, optimizer, i)
    after = values(model)
    held = [n for n in before if n.startswith(("stem", "s1"))]  # statistics too
    assert set(change.frozen) <= set(held)
    assert all(torch.equal(before[n], after[n]) for n in held)
    assert not torch.equal(before["s2.0.weight"], after["s2.0.weight"])


def test_a_thawed_parameter_that_equals_a_held_one_in_value_is_trained() -> None:
    model, frozen = frozen_net()
    optimizer = everything(frozen)
    assert torch.equal(model.s1[1].weight, model.stem[1].weight)  # both are ones
    frozen.change_("full", optimizer)
    before = values(model)
    for i in range(2):
        step(model, optimizer, i)
    moved = [n for n, p in model.named_parameters() if not torch.equal(before[n], p)]
    assert len(moved) == len(list(model.parameters()))


def test_norms_that_a_plan_freezes_are_not_trained() -> None:
    """Lightning's `train_bn=False` trains them."""
    model, frozen = frozen_net("full")
    optimizer = everything(frozen)
    frozen.change_("batch-norm", optimizer)
    before = values(model)
    step(model, optimizer, 0)
    after = values(model)
    norms = [n for n in before if ".1." in n]
    assert len(norms) == 20
    assert all(torch.equal(before[n], after[n]) for n in norms)


@pytest.mark.parametrize("moments", ["keep", "drop"])
def test_moments_of_what_is_frozen_are_kept_or_dropped(moments: Any) -> None:
    model, frozen = frozen_net("full")
    optimizer = everything(frozen)
    for i in range(2):
        step(model, optimizer, i)
    kept = optimizer.state[model.stem[0].weight]["momentum_buffer"].clone()
    frozen.change_(FIRST, optimizer, moments=moments)
    step(model, optimizer, 2)
    if moments == "keep":
        assert torch.equal(optimizer.state[model.stem[0].weight]["momentum_buffer"], kept)
    else:
        assert model.stem[0].weight not in optimizer.state
    assert model.s3[0].weight in optimizer.state
    with pytest.raises(FreezeError, match="moments is 'forget', expected 'keep' or 'drop'"):
        frozen.change_("full", optimizer, moments="forget")  # type: ignore[arg-type]


def test_all_phases_registers_each_parameter_once_by_stage() -> None:
    torch.manual_seed(0)
    model = Net()
    frozen = freeze_(model, "head-only")
    groups = frozen.param_groups(0.1, 0.01, all_phases=True)
    held = [id(p) for group in groups for p in group["params"]]
    assert sorted(held) == sorted(map(id, model.parameters()))
    assert [g["name"] for g in groups] == [
        name for stage in frozen.backbone.stages for name in (stage.name, f"{stage.name}, no decay")
    ]
    assert {g["weight_decay"] for g in groups if "no decay" in g["name"]} == {0}
    assert {g["lr"] for g in groups} == {0.1}


def test_the_state_dict_of_the_optimizer_keeps_its_shape() -> None:
    model, frozen = frozen_net()
    optimizer = everything(frozen)
    shape = [len(g["params"]) for g in optimizer.state_dict()["param_groups"]]
    for i, spec in enumerate((FIRST, "full", HEAD)):
        frozen.change_(spec, optimizer)
        step(model, optimizer, i)
        assert [len(g["params"]) for g in optimizer.state_dict()["param_groups"]] == shape


HALVES = FreezePlan(lr_scales=dict.fromkeys(("s3.0.weight", "s3.1.weight", "s3.1.bias"), 0.5))

SCHEDULERS: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda t: 1 / (1 + t)),
    "step": lambda o: lr_scheduler.StepLR(o, 3, 0.5),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 20),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(
        o, [g["lr"] for g in o.param_groups], total_steps=20, cycle_momentum=False
    ),
    "cyclic": lambda o: lr_scheduler.CyclicLR(
        o,
        [g["lr"] for g in o.param_groups],
        [g["lr"] * 4 for g in o.param_groups],
        step_size_up=4,
        cycle_momentum=False,
    ),
    "sequential": lambda o: lr_scheduler.SequentialLR(
        o,
        [
            lr_scheduler.LinearLR(o, 0.1, total_iters=5),
            lr_scheduler.CosineAnnealingLR(o, 15),
        ],
        [8],
    ),
    "chained": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.5, 3), lr_scheduler.ExponentialLR(o, 0.9)]
    ),
    "timm": lambda o: timm.scheduler.CosineLRScheduler(o, t_initial=20, warmup_t=8),
}


def advance(scheduler: Any, i: int) -> None:
    if isinstance(scheduler, timm.scheduler.scheduler.Scheduler):
        scheduler.step(i + 1)
    else:
        scheduler.step()


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_goes_on_as_if_the_multiplier_had_always_been_there(name: str) -> None:
    """Also for what is computed from base rates, maxima, and schedulers inside schedulers."""
    rates: dict[bool, list[list[float]]] = {}
    for is_early in (True, False):
        _, frozen = frozen_net("full")
        if is_early:
            frozen.change_(HALVES)
        optimizer = everything(frozen, phases=[HALVES])
        scheduler = SCHEDULERS[name](optimizer)
        rates[is_early] = []
        for i in range(16):
            if i == 6 and not is_early:
                frozen.change_(HALVES, optimizer, [scheduler])
            optimizer.step()
            advance(scheduler, i)
            if i >= 6:
                rates[is_early].append([g["lr"] for g in optimizer.param_groups])
    assert len({*rates[True][-1]}) == 2
    for expected, found in zip(rates[True], rates[False], strict=True):
        assert found == pytest.approx(expected, rel=1e-12)


def test_the_smallest_rates_of_a_plateau_scheduler_are_scaled() -> None:
    _, frozen = frozen_net("full")
    optimizer = everything(frozen, phases=[HALVES])
    plateau = lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, min_lr=0.04)
    frozen.change_(HALVES, optimizer, [plateau])
    for _ in range(4):
        plateau.step(1.0)
    assert {round(g["lr"], 12) for g in optimizer.param_groups} == {0.04, 0.02}


def test_a_stage_with_two_multipliers_needs_groups_of_its_phases() -> None:
    model, frozen = frozen_net("full")
    optimizer = everything(frozen, phases=True)
    plan = FreezePlan(lr_scales={"s3.0.weight": 0.5, "s2.0.weight": 0.25})
    one = torch.optim.SGD(model.parameters(), 0.1)
    before = values(model), repr(one.param_groups), frozen.plan
    with pytest.raises(FreezeError, match=r"different multipliers under the plan: .* x 0.25 and"):
        frozen.change_(plan, one)
    assert (repr(one.param_groups), frozen.plan) == before[1:]
    finer = everything(frozen, phases=[plan])
    assert len(finer.param_groups) >= len(optimizer.param_groups)
    frozen.change_(plan, finer)
    rate_of = {id(p): g["lr"] for g in finer.param_groups for p in g["params"]}
    assert rate_of[id(model.s3[0].weight)] == 0.05
    assert rate_of[id(model.s2[0].weight)] == 0.025
    assert rate_of[id(model.s2[1].weight)] == 0.1


def test_all_phases_takes_the_text_of_a_schedule() -> None:
    torch.manual_seed(0)
    model = Net()
    frozen = freeze_(model, "full")
    coarse = frozen.param_groups(0.1, all_phases="full then head-only at 1ep")
    assert len(coarse) == len(frozen.param_groups(0.1, all_phases=True))
    text = "head-only then layer-decay:decay=0.5 at 1ep"
    optimizer = torch.optim.SGD(frozen.param_groups(0.1, all_phases=text))
    frozen.change_("layer-decay:decay=0.5", optimizer)
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    for name, parameter in model.named_parameters():
        assert rates[id(parameter)] == pytest.approx(0.1 * frozen.plan.lr_scales.get(name, 1.0))


def test_a_scheduler_that_was_not_given_is_told_before_anything_changes() -> None:
    _, frozen = frozen_net("full")
    optimizer = everything(frozen, phases=[HALVES])
    scheduler = SCHEDULERS["cosine"](optimizer)
    before = repr(optimizer.param_groups)
    with pytest.raises(FreezeError, match=r"give it too: schedulers=\[scheduler\]"):
        frozen.change_(HALVES, optimizer)
    assert repr(optimizer.param_groups) == before
    assert not frozen.plan.lr_scales
    frozen.change_(HEAD, optimizer)  # it changes no multiplier
    other = SCHEDULERS["cosine"](torch.optim.SGD(Net().parameters(), 0.1))
    with pytest.raises(FreezeError, match="sets the rates of another optimizer"):
        frozen.change_(HALVES, optimizer, [scheduler, other])


def test_an_optimizer_of_what_was_trainable_is_refused_with_what_to_do() -> None:
    model, frozen = frozen_net()
    optimizer = torch.optim.SGD(frozen.param_groups(0.1))
    flags = [p.requires_grad for p in model.parameters()]
    with pytest.raises(
        FreezeError, match=r"does not hold 6 parameter\(s\) that the plan trains: .*all_phases=True"
    ):
        frozen.change_(FIRST, optimizer)
    assert [p.requires_grad for p in model.parameters()] == flags


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda model: "sgd", "optimizer is str 'sgd', expected a torch.optim.Optimizer"),
        (lambda model: torch.optim.SGD(Net().parameters(), 0.1), "holds no parameter of this Net"),
        (
            lambda model: torch.optim.LBFGS(model.parameters()),
            "LBFGS moves parameters that have no",
        ),
    ],
)
def test_an_optimizer_that_cannot_go_through_phases_is_refused(
    make: Callable[[nn.Module], Any], message: str
) -> None:
    model, frozen = frozen_net("full")
    plan = frozen.plan
    with pytest.raises(FreezeError, match=message):
        frozen.change_(HEAD, make(model))
    assert frozen.plan == plan


class Restless(torch.optim.SGD):
    """It decays all that it holds, with or without a gradient."""

    def step(self, closure: Any = None) -> None:
        super().step(closure)
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.mul_(0.99)


def test_an_optimizer_of_the_users_own_that_moves_all_is_refused() -> None:
    model, frozen = frozen_net("full")
    with pytest.raises(FreezeError, match="Restless moves parameters that have no gradient"):
        frozen.change_(HEAD, Restless(model.parameters(), 0.1))


class Decaying(torch.optim.Optimizer):
    """It decays by the settings of a group before it looks for a gradient."""

    def __init__(self, params: Any, lr: float = 0.1, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # torch's overloads
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    if parameter.grad is not None:
                        parameter.add_(parameter.grad, alpha=-group["lr"])


def test_the_settings_of_groups_are_tried_too() -> None:
    _, frozen = frozen_net()
    with pytest.raises(FreezeError, match="Decaying moves parameters that have no gradient"):
        frozen.change_(FIRST, Decaying(frozen.param_groups(0.1, 0.05, all_phases=True)))


class Twice(torch.optim.Optimizer):
    """It has another optimizer inside, as sharpness-aware minimization has."""

    def __init__(self, params: Any) -> None:
        self.base_optimizer = torch.optim.SGD(params, 0.1)
        super().__init__(self.base_optimizer.param_groups, self.base_optimizer.defaults)
        self.param_groups = self.base_optimizer.param_groups

    def second_step(self) -> None:
        self.base_optimizer.step()


def test_a_step_of_the_optimizer_inside_is_seen() -> None:
    _, frozen = frozen_net()
    optimizer = Twice(frozen.param_groups(0.1, all_phases=True))
    run = frozen.follow(f"{HEAD} then {FIRST} at 1step", optimizer, epochs=1, steps_per_epoch=2)
    optimizer.second_step()
    assert run.step()


def test_verify_accepts_an_optimizer_for_all_phases() -> None:
    model = MODELS["residual"]()
    frozen = freeze_(model, "head-only")
    optimizer = torch.optim.AdamW(frozen.param_groups(1e-3, all_phases=True))
    assert frozen.verify(images(), optimizer=optimizer).passed
    model = MODELS["residual"]()
    groups = freeze_(model, "full").param_groups(1e-3)
    other = torch.optim.AdamW(groups[1:])  # made for another plan, and not of everything
    checks = freeze_(model, "head-only").verify(images(), optimizer=other).checks
    assert [check.name for check in checks if not check.passed] == ["parameter-groups"]


def test_without_an_optimizer_thawing_warns() -> None:
    _, frozen = frozen_net()
    with pytest.warns(FreezekitWarning, match=r"this change_\(\) thaws 6 parameter") as caught:
        frozen.change_(FIRST)
    assert caught[0].filename == __file__


def test_a_plan_that_leaves_nothing_to_train_is_refused() -> None:
    model, frozen = frozen_net()
    with pytest.raises(PlanError, match="nothing is left to train"):
        frozen.change_(FreezePlan(dict(model.named_parameters())), everything(frozen))
    assert frozen.plan.frozen < dict(model.named_parameters()).keys()


def test_a_handle_that_is_no_longer_in_force_is_refused() -> None:
    model, frozen = frozen_net()
    optimizer = everything(frozen)
    freeze_(model, HEAD)
    for act in (
        lambda: frozen.change_("full", optimizer),
        lambda: frozen.follow("full", optimizer),
        lambda: frozen.load_state_dict(frozen.state_dict()),
    ):
        with pytest.raises(FreezeError, match="this handle is no longer in force"):
            act()


def test_a_change_inside_forward_or_backward_is_refused() -> None:
    model, frozen = frozen_net("full")
    optimizer = everything(frozen)
    refused: list[str] = []

    def try_it(*_: object) -> None:
        try:
            frozen.change_(HEAD, optimizer)
        except FreezeError as error:
            refused.append(str(error))

    before = frozen.plan
    hook = model.s2.register_forward_hook(try_it)
    loss = model(batch(0)[0]).sum()
    hook.remove()
    model.s2[0].weight.register_hook(try_it)
    loss.backward()
    assert [text.split(";")[0] for text in refused] == [
        "the plan cannot change inside the forward of Net",
        "the plan cannot change inside a backward pass",
    ]
    assert frozen.plan == before


def test_flags_flipped_by_hand_are_told_and_set() -> None:
    model, frozen = frozen_net()
    optimizer = everything(frozen)
    model.s1[0].weight.requires_grad_(True)
    with pytest.warns(FreezekitWarning, match="the model has departed from its plan"):
        frozen.change_(FIRST, optimizer)
    assert not model.s1[0].weight.requires_grad


def test_a_new_head_is_refused_as_the_view_does_not_know_it() -> None:
    model, frozen = frozen_net()
    optimizer = everything(frozen)
    model.fc = nn.Linear(16, CLASSES + 1)
    with pytest.raises(
        FreezeError, match=r"has other parameters than when it was frozen: 'fc.bias'"
    ):
        frozen.change_(FIRST, optimizer)


@pytest.mark.parametrize("make", [ModelEmaV3, AveragedModel])
def test_averaged_models_follow(make: Callable[[nn.Module], Any]) -> None:
    model, frozen = frozen_net()
    averaged = make(model)
    optimizer = everything(frozen)
    update = getattr(averaged, "update", None) or averaged.update_parameters
    for i, spec in enumerate((HEAD, "full", FIRST)):
        frozen.change_(spec, optimizer)
        before = values(averaged.module)
        step(model, optimizer, i)
        update(model)
        moved = {n for n, v in values(averaged.module).items() if not torch.equal(before[n], v)}
        trained = {n for n, p in model.named_parameters() if p.requires_grad}
        if make is ModelEmaV3 or i:  # AveragedModel copies all the first time
            assert trained <= moved


def test_clipping_and_scaling_of_gradients_go_on() -> None:
    model, frozen = frozen_net()
    optimizer = everything(frozen)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for i, spec in enumerate((HEAD, FIRST, "full", HEAD)):
        frozen.change_(spec, optimizer)
        images, labels = batch(i)
        model.train()
        before = values(model)
        with torch.autocast("cpu", torch.bfloat16):
            loss = functional.cross_entropy(model(images).float(), labels)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        assert torch.isfinite(norm)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        assert all(
            torch.equal(before[n], dict(model.named_parameters())[n]) for n in frozen.plan.frozen
        )


def test_a_model_without_stages_has_groups_too() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.b(self.a(x) + y)

    model = Odd()
    frozen = freeze_(model, "by-name:glob=a.*")
    optimizer = torch.optim.SGD(frozen.param_groups(0.1, all_phases=True))
    assert [g["name"] for g in optimizer.param_groups] == ["all", "all, no decay"]
    assert frozen.change_("by-name:glob=b.*", optimizer).thawed == ("a.weight", "a.bias")
