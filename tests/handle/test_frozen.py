"""Freezing: which state it changes, that the state stays, and that `undo` restores it."""

from __future__ import annotations

import copy
import io
import math
import pickle
import threading
import warnings

import pytest
import timm
import torch
from torch import nn
from torchvision.models import resnet18

from freezekit import (
    Backbone,
    FreezeError,
    FreezekitWarning,
    FreezePlan,
    ModelError,
    PlanError,
    PluginError,
    SpecError,
    Stage,
    StagingError,
    Strategy,
    freeze_,
    load_backbone,
    plan,
)


def train_steps(model: nn.Module, groups: list[dict], steps: int = 3, size: int = 64) -> None:
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(steps):
        model.train()
        optimizer.zero_grad()
        model(torch.randn(2, 3, size, size)).square().mean().backward()
        optimizer.step()


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items()}


def flags(model: nn.Module) -> dict[str, bool]:
    return {n: p.requires_grad for n, p in model.named_parameters()}


def modes(model: nn.Module) -> dict[str, bool]:
    return {n: m.training for n, m in model.named_modules()}


@pytest.fixture
def model() -> nn.Module:
    return resnet18(num_classes=5)


SPECS = (
    "head-only",
    "first-n-stages:n=2",
    "batch-norm",
    "by-name:contains=layer1|bn",
    "discriminative-lr:decay=0.5,freeze_below=0.1",
)


@pytest.mark.filterwarnings("ignore::freezekit.FreezekitWarning")
@pytest.mark.parametrize("spec", SPECS)
def test_frozen_stays_bit_identical_and_the_rest_moves(model: nn.Module, spec: str) -> None:
    frozen = freeze_(model, spec)
    before = state(model)
    train_steps(model, frozen.param_groups(lr=0.1, weight_decay=0.1))
    after = model.state_dict()
    statistics = {
        name
        for name in before
        if name.endswith(("running_mean", "running_var", "num_batches_tracked"))
        and name.rpartition(".")[0] in frozen.plan.eval_modules
    }
    for name in frozen.plan.frozen | statistics:
        assert torch.equal(before[name], after[name]), name
    for name in Backbone(model).parameters.keys() - frozen.plan.frozen:
        assert not torch.equal(before[name], after[name]), name


def test_thaw_trains_all_that_a_plan_does_not_freeze(model: nn.Module) -> None:
    model.conv1.weight.requires_grad_(False)
    frozen = freeze_(model, "full", thaw=True)
    assert all(flags(model).values())
    frozen.undo()
    assert not model.conv1.weight.requires_grad


def test_no_key_no_type_no_hook_changes(model: nn.Module) -> None:
    keys, types = list(model.state_dict()), [type(m) for m in model.modules()]
    freeze_(model, "first-n-stages:n=2")
    assert list(model.state_dict()) == keys
    assert [type(m) for m in model.modules()] == types
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_held_modules_stay_in_eval_through_train(model: nn.Module) -> None:
    frozen = freeze_(model, "first-n-stages:n=2")
    for mode in (True, False, True):
        model.train(mode)
        for name, module in model.named_modules():
            assert module.training == (mode and name not in frozen.plan.eval_modules), name
    model.layer1.train()
    assert not model.layer1[0].bn1.training


def test_dropout_and_drop_path_in_frozen_blocks_are_off() -> None:
    vit = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, drop_path_rate=0.5, drop_rate=0.5, num_classes=3
    )
    freeze_(vit, "head-only")
    vit.train()
    vit.head_drop.eval()
    image = torch.randn(1, 3, 32, 32)
    assert torch.equal(vit(image), vit(image))


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save", "sequential", "parallel"])
def test_frozen_survives_copies_and_wrappers(model: nn.Module, how: str) -> None:
    fixed = freeze_(model, "first-n-stages:n=2").plan.eval_modules
    wrapped, inner = _wrap(model, how)
    wrapped.train()
    assert {n for n, m in inner.named_modules() if not m.training} == fixed
    assert flags(inner) == flags(model)
    if inner is not model:  # a copy holds its own modules, not those of the original
        model.eval()
        assert inner.layer3.training
        inner.eval()
        inner.train()
        assert not model.layer3.training


def _wrap(model: nn.Module, how: str) -> tuple[nn.Module, nn.Module]:
    if how == "deepcopy":
        inner = copy.deepcopy(model)
    elif how == "pickle":
        inner = pickle.loads(pickle.dumps(model))
    elif how == "torch.save":
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        inner = torch.load(file, weights_only=False)
    else:
        wrapper = nn.Sequential if how == "sequential" else nn.DataParallel
        return wrapper(model), model
    return inner, inner


def test_frozen_survives_torch_compile() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten())
    model.append(nn.Linear(4 * 6 * 6, 2))
    freeze_(
        model,
        FreezePlan({"0.weight", "0.bias", "1.weight", "1.bias"}, eval_modules={"0", "1", "2"}),
    )
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    before = model[1].running_mean.clone()
    compiled.train()
    image = torch.randn(2, 3, 8, 8)
    assert torch.equal(compiled(image), compiled(image))
    assert torch.equal(before, model[1].running_mean)


def test_a_checkpoint_round_trip_keeps_the_plan(model: nn.Module) -> None:
    freeze_(model, "batch-norm")
    other = resnet18(num_classes=5)
    frozen = freeze_(other, "batch-norm")
    other.load_state_dict(model.state_dict())
    assert all(
        torch.equal(a, b)
        for a, b in zip(state(model).values(), state(other).values(), strict=False)
    )
    assert not any(other.train().get_submodule(name).training for name in frozen.plan.eval_modules)


def test_a_copy_can_be_frozen_again(model: nn.Module) -> None:
    freeze_(model, "first-n-stages:n=2")
    twin = copy.deepcopy(model)
    with pytest.warns(FreezekitWarning, match="thaws 30 parameter"):
        freeze_(twin, "full").undo()
    assert all(flags(twin).values())
    assert all(modes(twin).values())
    assert not model.layer1.training


def test_undo_restores_flags_and_modes_and_leaves_no_trace(model: nn.Module) -> None:
    model.layer2.eval()
    model.layer4[0].conv1.weight.requires_grad_(False)
    before = flags(model), modes(model), {n: set(m.__dict__) for n, m in model.named_modules()}
    freeze_(model, "first-n-stages:n=3").undo()
    after = flags(model), modes(model), {n: set(m.__dict__) for n, m in model.named_modules()}
    assert after == before


def test_undo_follows_the_last_mode_asked_for(model: nn.Module) -> None:
    frozen = freeze_(model, "first-n-stages:n=3")
    model.eval()
    frozen.undo()
    assert not any(modes(model).values())


def test_gradients_of_what_is_frozen_are_dropped(model: nn.Module) -> None:
    model(torch.randn(2, 3, 64, 64)).sum().backward()
    freeze_(model, "head-only")
    assert model.conv1.weight.grad is None
    assert model.fc.weight.grad is not None


def test_freezing_again_replaces_the_first_plan(model: nn.Module) -> None:
    first = freeze_(model, "head-only")
    with pytest.warns(FreezekitWarning, match="thaws 45 parameter"):
        second = freeze_(model, "first-n-stages:n=1")
    assert flags(model)["layer4.0.conv1.weight"]
    assert model.train().layer4.training
    with pytest.raises(FreezeError, match="no longer in force"):
        first.undo()
    second.undo()
    assert all(flags(model).values())
    assert all(modes(model).values())
    with pytest.raises(FreezeError, match="no longer in force"):
        second.param_groups(lr=1.0)


def test_overlapping_freezes_are_refused(model: nn.Module) -> None:
    freeze_(model, "head-only")
    with pytest.raises(FreezeError, match=r"'0' inside this Sequential was frozen on its own"):
        freeze_(nn.Sequential(model), "full")
    with pytest.raises(FreezeError, match="held in eval mode by a frozen model around it"):
        freeze_(model.layer1, "full")


class _Broken(Strategy):
    name = "broken"
    summary = "breaks"

    def plan(self, backbone: Backbone) -> FreezePlan:
        raise KeyError("oh")


@pytest.mark.parametrize(
    ("spec", "error", "text"),
    [
        ("by-name:glob=*", PlanError, "nothing is left to train: all 62 parameters of ResNet"),
        (FreezePlan({"conv1.wight"}), PlanError, r"'conv1.wight', did you mean 'conv1.weight'"),
        (
            FreezePlan(eval_modules={"layer9"}),
            PlanError,
            r"eval_modules names 1 module\(s\).*'layer9'",
        ),
        (FreezePlan(lr_scales={"nope": 2}), PlanError, "lr_scales names 1 parameter"),
        ("first-n-stages:n=9", PlanError, "4 body stages .layer1 to layer4.; give n from 0 to 4"),
        (_Broken(), PluginError, "strategy 'broken'.*failed: KeyError: 'oh'"),
    ],
)
def test_the_model_is_unchanged_after_an_error(
    model: nn.Module, spec: str | FreezePlan, error: type[Exception], text: str
) -> None:
    freeze_(model, "batch-norm")
    before = flags(model), modes(model)
    with pytest.raises(error, match=text):
        freeze_(model, spec)
    assert (flags(model), modes(model)) == before
    assert not model.train().bn1.training


def test_plan_does_not_touch_the_model(model: nn.Module) -> None:
    model(torch.randn(2, 3, 64, 64)).sum().backward()
    before = flags(model), modes(model), torch.get_rng_state()
    values = state(model)
    plan(model, "first-n-stages:n=2 + discriminative-lr:decay=0.5")
    assert (flags(model), modes(model)) == before[:2]
    assert torch.equal(torch.get_rng_state(), before[2])
    assert all(torch.equal(values[k], v) for k, v in model.state_dict().items())
    assert all(p.grad is not None for p in model.parameters())


def test_lazy_modules_must_have_seen_an_input() -> None:
    net = nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 2))
    with pytest.raises(ModelError, match=r"'0.weight' .* has no shape yet .*call the model once"):
        freeze_(net, "full")


def test_warnings_of_a_plan_reach_the_caller(model: nn.Module) -> None:
    with pytest.warns(FreezekitWarning, match="3 of 20 norm layers have other names") as caught:
        freeze_(model, "by-name:contains=bn")
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        freeze_(model, "batch-norm")


def test_composed_specs_unite_and_multiply(model: nn.Module) -> None:
    both = plan(
        model, "first-n-stages:n=1 + batch-norm:statistics=live + discriminative-lr:decay=0.5"
    )
    assert {"conv1.weight", "layer4.1.bn2.weight"} <= both.frozen
    assert "layer1.0.bn1" in both.eval_modules
    assert "layer4.1.bn2" not in both.eval_modules
    assert both.lr_scales["layer4.0.conv1.weight"] == 0.5
    assert not both.lr_scales.keys() & both.frozen


def test_two_plans_without_eval_modules_hold_what_they_freeze_together(model: nn.Module) -> None:
    both = plan(model, "by-name:glob=bn1.weight + by-name:glob=bn1.bias")
    assert both.eval_modules == {"bn1"}


def test_param_groups_hold_each_trainable_parameter_once(model: nn.Module) -> None:
    frozen = freeze_(model, "first-n-stages:n=1 + discriminative-lr:decay=0.5")
    groups = frozen.param_groups(lr=0.4, weight_decay=0.05)
    held = [id(p) for g in groups for p in g["params"]]
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    assert len(held) == len(set(held))
    assert set(held) == trained
    for group in groups:
        assert all((p.ndim > 1) == (group["weight_decay"] == 0.05) for p in group["params"])
    of = {id(p): g for g in groups for p in g["params"]}
    assert of[id(model.fc.weight)]["lr"] == 0.4
    assert of[id(model.layer4[0].conv1.weight)]["lr"] == 0.2


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, "a", "0.1", True, None, [1]])
def test_a_rate_that_cannot_be_meant_is_refused(model: nn.Module, value: object) -> None:
    frozen = freeze_(model, "head-only")
    with pytest.raises(FreezeError, match=r"lr is .*, expected a finite number of at least 0"):
        frozen.param_groups(value)
    with pytest.raises(FreezeError, match=r"weight_decay is .*, expected a finite number"):
        frozen.param_groups(0.1, value)
    assert frozen.param_groups(torch.tensor(0.1), 0)


def test_parameters_that_the_model_names_get_no_weight_decay() -> None:
    vit = load_backbone("timm:vit_tiny_patch16_224", device="meta")
    frozen = freeze_(vit, "full")
    groups = frozen.param_groups(lr=1.0, weight_decay=0.1)
    spared = {id(p) for g in groups if g["weight_decay"] == 0 for p in g["params"]}
    assert {id(vit.pos_embed), id(vit.cls_token)} <= spared


def test_tied_parameters_are_frozen_everywhere() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    frozen = freeze_(net, "by-name:contains=1.weight")
    assert frozen.plan.frozen == {"0.weight"}
    assert not net[1].weight.requires_grad
    assert len([p for g in frozen.param_groups(lr=1.0) for p in g["params"]]) == 4


def test_the_report_lists_each_stage(model: nn.Module) -> None:
    text = freeze_(model, "first-n-stages:n=1 + discriminative-lr:decay=0.5").report()
    lines = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert max(map(len, text.splitlines())) <= 80
    assert "all" in lines["layer1"]
    assert "x 0.5" in lines["layer4"]
    assert lines["head"].split()[1:3] == ["2,565", "2,565"]


def test_report_of_a_model_that_cannot_be_staged() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(3, 3)
            self.b = nn.Linear(3, 3)

    with pytest.raises(StagingError):
        freeze_(Odd(), "head-only")
    assert "listed by top-level module" in freeze_(Odd(), "by-name:contains=a").report()


def test_an_optimizer_made_before_does_not_move_what_is_frozen(model: nn.Module) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    model(torch.randn(2, 3, 64, 64)).sum().backward()
    optimizer.step()  # momentum is there, and so are gradients
    frozen = freeze_(model, "first-n-stages:n=2")
    before = state(model)
    for _ in range(3):
        model(torch.randn(2, 3, 64, 64)).sum().backward()
        optimizer.step()
    assert all(torch.equal(before[n], model.state_dict()[n]) for n in frozen.plan.frozen)


@pytest.mark.parametrize("name", ["efficientnet_b0", "densenet121", "mobilenetv3_small_100"])
def test_fused_norm_and_activation_layers_keep_their_activation(name: str) -> None:
    net = timm.create_model(name, num_classes=3).eval()
    image = torch.randn(1, 3, 64, 64)
    before = net(image)
    freeze_(net, "batch-norm")
    assert torch.equal(net(image), before)


def test_parameters_of_the_model_itself_belong_to_stages() -> None:
    vit = load_backbone("timm:vit_tiny_patch16_224", device="meta")
    assert {"cls_token", "pos_embed"} <= plan(vit, "first-n-stages:n=0").frozen
    cait = load_backbone("timm:cait_xxs24_224", device="meta")
    assert sum(len(s.parameters) for s in Backbone(cait).stages) == len(list(cait.parameters()))


def test_an_average_of_weights_does_not_drift_in_frozen_statistics(model: nn.Module) -> None:
    freeze_(model, "batch-norm")
    ema = timm.utils.ModelEmaV3(model, decay=0.5)
    before = ema.module.bn1.running_mean.clone()
    model.train()(torch.randn(2, 3, 64, 64))
    ema.update(model)
    assert torch.equal(ema.module.bn1.running_mean, before)
    assert not ema.module.train().bn1.training


def test_warnings_that_are_errors_leave_the_model_as_it_was(model: nn.Module) -> None:
    with pytest.raises(FreezekitWarning):  # as pytest is told to
        freeze_(model, "by-name:contains=bn")
    assert all(flags(model).values())
    assert not any("_freezekit" in key for key in vars(model))


def test_a_users_own_train_method_is_restored(model: nn.Module) -> None:
    def disabled_train(mode: bool = True) -> nn.Module:
        return model.bn1

    model.bn1.train = disabled_train
    model.bn1.eval()
    frozen = freeze_(model, "batch-norm")
    frozen.undo()
    assert model.bn1.__dict__["train"] is disabled_train


def test_a_class_that_switches_more_than_a_flag_is_switched_to_eval() -> None:
    class TwoFaced(nn.Linear):
        face = "train"

        def train(self, mode: bool = True) -> nn.Module:
            self.face = "train" if mode else "eval"
            return super().train(mode)

    net = nn.Sequential(TwoFaced(2, 2), nn.Linear(2, 2))
    frozen = freeze_(net, "by-name:contains=0.")
    net.train()
    assert (net[0].face, net[0].training) == ("eval", False)
    frozen.undo()
    assert (net[0].face, net[0].training) == ("train", True)


def test_a_module_shared_with_live_ones_is_not_held() -> None:
    dropout = nn.Dropout(0.5)
    net = nn.Sequential(
        nn.Sequential(nn.Linear(2, 2), dropout), nn.Sequential(nn.Linear(2, 2), dropout)
    )
    freeze_(net, "by-name:glob=0.*")
    net.train()
    assert dropout.training
    assert not net[0][0].training


def test_what_two_strategies_freeze_together_is_held_unless_one_says_live(model: nn.Module) -> None:
    convs = r"by-name:regex='^layer1\..*conv'"
    assert {"layer1", "layer1.0"} <= plan(model, f"{convs} + batch-norm").eval_modules
    live = plan(model, f"{convs} + batch-norm:statistics=live").eval_modules
    assert "layer1.0.conv1" in live
    assert "layer1.0.bn1" not in live


class _Meddler(Strategy):
    name = "meddler"
    summary = "touches the model"

    def plan(self, backbone: Backbone) -> FreezePlan:
        backbone.model.eval()
        backbone.model.conv1.weight.requires_grad_(False)
        return FreezePlan()


class _Quitter(Strategy):
    name = "quitter"
    summary = "leaves"

    def plan(self, backbone: Backbone) -> FreezePlan:
        raise SystemExit(5)


@pytest.mark.parametrize(
    ("strategy", "text"),
    [(_Meddler(), "in plan\\(\\) changed the model"), (_Quitter(), "failed: SystemExit: 5")],
)
def test_a_failing_strategy_is_reported_as_its_plugins_fault(
    model: nn.Module, strategy: Strategy, text: str
) -> None:
    with pytest.raises(PluginError, match=text):
        freeze_(model, strategy)
    assert all(flags(model).values())
    assert all(modes(model).values())


def test_plans_hold_text_and_numbers_only() -> None:
    with pytest.raises(PlanError, match="frozen holds 1, expected text"):
        FreezePlan(frozen={1})
    with pytest.raises(PlanError, match="multiplier of 'a' is 0"):
        FreezePlan(lr_scales={"a": 0})


def test_stages_of_a_plugin_need_not_name_modules(model: nn.Module) -> None:
    told = [Stage(s.name, s.kind, s.parameters, s.buffers) for s in Backbone(model).stages]
    backbone = Backbone(model, stager=lambda _: told)
    assert "layer1.0.bn1" in plan(backbone, "first-n-stages:n=1").eval_modules


def test_a_handle_is_copied_with_its_model(model: nn.Module) -> None:
    holder = nn.Module()
    holder.net = model
    holder.frozen = freeze_(model, "head-only")
    holder.frozen.report()
    twin = copy.deepcopy(holder)
    twin.frozen.undo()
    assert twin.net.train().layer1.training
    assert not model.train().layer1.training


def test_norms_of_any_shape_and_wrapped_models_go_without_decay() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.LayerNorm([4, 6, 6]), nn.Flatten(), nn.Linear(144, 2)
    )
    groups = freeze_(net, "full").param_groups(lr=1.0, weight_decay=0.1)
    spared = {id(p) for g in groups if not g["weight_decay"] for p in g["params"]}
    assert id(net[1].weight) in spared
    vit = load_backbone("timm:test_vit")
    groups = freeze_(nn.Sequential(vit), "full").param_groups(lr=1.0, weight_decay=0.1)
    assert id(vit.pos_embed) in {
        id(p) for g in groups if not g["weight_decay"] for p in g["params"]
    }


def test_a_model_that_cannot_be_copied_can_be_frozen_by_name() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net.lock = threading.Lock()
    assert "cannot be copied" in freeze_(net, "by-name:contains=0.").report()


def test_an_object_that_is_not_a_spec_is_refused(model: nn.Module) -> None:
    with pytest.raises(SpecError, match="a spec is int 3, expected text"):
        freeze_(model, 3)
