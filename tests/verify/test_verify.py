"""The proof that frozen is frozen: it passes where it should, and finds what is wrong."""

from __future__ import annotations

import copy
import json
import random
import textwrap
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.utils.checkpoint import checkpoint
from torchvision.models import googlenet, resnet18

from freezekit import (
    Check,
    FreezeError,
    FreezePlan,
    Frozen,
    ModelError,
    Verification,
    freeze_,
    load_backbone,
    verify_model,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

NAMES = [
    "frozen-weights",
    "fixed-statistics",
    "same-in-train-and-eval",
    "gradients",
    "parameter-groups",
    "undo",
]
SPECS = (
    "full",
    "head-only",
    "first-n-stages:n=1",
    "batch-norm",
    "by-name:contains=bn|blocks.0",
    "discriminative-lr:decay=0.5,freeze_below=0.1",
)


def images(size: int = 32, **kwargs: object) -> torch.Tensor:
    return torch.randn(2, 3, size, size, **kwargs)


def failed(found: Verification) -> dict[str, tuple[str, ...]]:
    return {check.name: check.offenders for check in found.checks if not check.passed}


def detail(found: Verification, name: str) -> str:
    return next(check.detail for check in found.checks if check.name == name)


@pytest.fixture
def model() -> nn.Module:
    return resnet18(num_classes=5)


@pytest.fixture
def frozen(model: nn.Module) -> Frozen:
    return freeze_(model, "first-n-stages:n=1")


def small(name: str) -> nn.Module:
    if name == "resnet18":
        return resnet18(num_classes=5)
    return timm.create_model(f"test_{name}", num_classes=5, drop_path_rate=0.3)


@pytest.mark.filterwarnings("ignore::freezekit.FreezekitWarning")
@pytest.mark.parametrize("name", ["resnet18", "vit", "efficientnet"])
@pytest.mark.parametrize("spec", SPECS)
def test_every_built_in_strategy_is_proved(name: str, spec: str) -> None:
    if (name, spec) == ("vit", "batch-norm"):
        pytest.skip("a ViT has no batch norm")
    found = freeze_(small(name), spec).verify(images(160 if name == "vit" else 64))
    assert found.passed, str(found)
    assert [check.name for check in found.checks] == NAMES


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["resnet18", "vit"])
def test_other_dtypes_are_proved(name: str, dtype: torch.dtype) -> None:
    frozen = freeze_(small(name).to(dtype), "first-n-stages:n=1")
    found = frozen.verify(images(160 if name == "vit" else 32, dtype=dtype))
    assert found.passed, str(found)


def test_inputs_are_made_where_none_are_given() -> None:
    found = freeze_(small("resnet"), "first-n-stages:n=1").verify(steps=1)
    assert found.passed
    assert found.summary == "proved on 1 step of SGD, input (2, 3, 160, 160)"


def test_a_detection_model_is_proved() -> None:
    text = "torchvision:ssdlite320_mobilenet_v3_large"
    model = load_backbone(text, num_classes=3)
    found = freeze_(model, "first-n-stages:n=2").verify(steps=1)
    assert found.passed, str(found)


class Pair(nn.Module):
    """Takes two images, one of them by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(one) + other)


@pytest.mark.parametrize("kind", [tuple, dict])
def test_inputs_may_be_arguments_or_keywords(kind: type) -> None:
    model = Pair()
    model.first.requires_grad_(False)
    one, other = torch.ones(2, 4), torch.ones(2, 4)
    inputs = (one, other) if kind is tuple else {"other": other, "one": one}
    assert verify_model(model, inputs).passed


# Nothing of the user's is touched.


def bits(model: nn.Module) -> dict[str, bytes]:
    return {k: v.numpy().tobytes() for k, v in model.state_dict().items()}


def around(model: nn.Module) -> list[object]:
    """Return all that a verification must leave alone, but for values."""
    return [
        [(n, p.requires_grad, id(p.grad)) for n, p in model.named_parameters()],
        [p.grad.clone().numpy().tobytes() for p in model.parameters() if p.grad is not None],
        [(n, m.training, sorted(vars(m))) for n, m in model.named_modules()],
        torch.get_rng_state().numpy().tobytes(),
        random.getstate(),
        np.random.get_state()[1].tobytes(),  # the global state
    ]


def test_the_model_its_gradients_and_random_state_stay(frozen: Frozen) -> None:
    model = frozen.backbone.model.train()
    model(images()).sum().backward()
    model.layer3.eval()
    inputs = images().requires_grad_()
    before, values, given = around(model), bits(model), inputs.detach().clone()
    for loss in (
        None,
        lambda output: output.sum() + sum(p.square().sum() for p in model.parameters()),
    ):
        frozen.verify(inputs, loss=loss)
    assert around(model) == before
    assert bits(model) == values
    assert torch.equal(inputs, given)
    assert inputs.grad is None


def test_an_error_leaves_all_as_it_was(frozen: Frozen) -> None:
    frozen.backbone.model(images()).sum().backward()
    wrong = torch.randn(2, 4, 32, 32)
    before = around(frozen.backbone.model)
    with pytest.raises(ModelError):
        frozen.verify(wrong)
    assert around(frozen.backbone.model) == before


def test_the_optimizer_stays(frozen: Frozen) -> None:
    model = frozen.backbone.model
    optimizer = torch.optim.AdamW(frozen.param_groups(lr=0.1), lr=0.1)
    model(images()).sum().backward()
    optimizer.step()
    before = copy.deepcopy(optimizer.state_dict())
    assert frozen.verify(images(), optimizer=optimizer).passed
    assert str(optimizer.state_dict()) == str(before)


def test_a_criterion_with_parameters_is_copied_too(frozen: Frozen) -> None:
    criterion = nn.Sequential(nn.Flatten(0), nn.Linear(10, 1))
    found = frozen.verify(images(), loss=criterion)
    assert found.passed, str(found)
    assert all(p.grad is None for p in criterion.parameters())


def test_it_works_under_no_grad(frozen: Frozen) -> None:
    with torch.no_grad():
        assert frozen.verify(images(), steps=1).passed
        assert not torch.is_grad_enabled()


# It finds faults in models frozen by hand.


def test_the_loop_over_names_is_found_out(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if "bn" in name:
            parameter.requires_grad = False
    found = failed(verify_model(model, images(64)))
    assert found.keys() == {"fixed-statistics", "same-in-train-and-eval"}
    assert {"bn1.running_mean", "bn1.running_var"} < set(found["fixed-statistics"])
    assert len(found["fixed-statistics"]) == 17 * 3
    assert {"bn1", "layer4.1.bn2"} < set(found["same-in-train-and-eval"])


def test_no_tracked_statistics_is_not_frozen(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # as Lightning's BaseFinetuning.freeze does
            module.track_running_stats = False
            module.requires_grad_(False)
    found = failed(verify_model(model, images(64)))
    assert found.keys() == {"same-in-train-and-eval"}
    assert len(found["same-in-train-and-eval"]) == 20


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_frozen_after_the_optimizer_took_steps(model: nn.Module, kind: type) -> None:
    momentum = {"momentum": 0.9} if kind is torch.optim.SGD else {}
    optimizer = kind(model.parameters(), lr=0.01, weight_decay=0.1, **momentum)
    for _ in range(2):
        optimizer.zero_grad()
        model(images()).sum().backward()
        optimizer.step()
    model.conv1.requires_grad_(False)
    found = verify_model(model, images(), optimizer=optimizer)
    assert failed(found) == {
        "frozen-weights": ("conv1.weight",),
        "parameter-groups": ("conv1.weight",),
    }
    assert detail(found, "parameter-groups") == "1 frozen in a group"


def test_freezing_late_by_freeze_leaves_the_groups_wrong(model: nn.Module) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    model(images()).sum().backward()
    optimizer.step()
    frozen = freeze_(model, "head-only")
    found = failed(frozen.verify(images(), optimizer=optimizer))
    assert found == {"parameter-groups": tuple(dict(model.named_parameters()))[:60]}


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_an_optimizer_of_all_parameters_before_its_first_step_leaves_what_is_frozen(
    model: nn.Module, kind: type
) -> None:
    optimizer = kind(model.parameters(), lr=0.001, weight_decay=0.1)
    found = freeze_(model, "head-only").verify(images(), optimizer=optimizer)
    assert found.passed, str(found)
    assert detail(found, "parameter-groups") == "2 parameters once each, in 1 group"


@pytest.mark.parametrize(
    "group", [lambda net: [*net.fc.parameters(), net.conv1.weight], lambda net: net.parameters()]
)
def test_frozen_in_a_group_of_some_or_with_a_gradient_is_a_fault(
    model: nn.Module, group: Callable[[nn.Module], Iterable[nn.Parameter]]
) -> None:
    frozen = freeze_(model, "head-only")
    optimizer = torch.optim.SGD(group(model), lr=0.1)
    if len(optimizer.param_groups[0]["params"]) > 3:
        model.conv1.weight.grad = torch.ones_like(model.conv1.weight)
    assert (
        "conv1.weight" in failed(frozen.verify(images(), optimizer=optimizer))["parameter-groups"]
    )


def test_eval_is_undone_by_train(model: nn.Module) -> None:
    model.layer1.requires_grad_(False).eval()
    found = failed(verify_model(model, images()))
    assert found["same-in-train-and-eval"] == (
        "layer1.0.bn1",
        "layer1.0.bn2",
        "layer1.1.bn1",
        "layer1.1.bn2",
    )


class Held(nn.Module):
    """Holds its body in eval mode by a `train` of its own: right, by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(4 * 6 * 6, 2))
        self.body.requires_grad_(False)

    def train(self, mode: bool = True) -> Held:
        super().train(mode)
        self.body.eval()
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


def test_a_model_that_is_held_right_by_hand_passes() -> None:
    found = verify_model(Held(), images(8))
    assert found.passed, str(found)
    assert [check.name for check in found.checks] == NAMES[:-1]


def test_power_iterations_of_spectral_norm_are_found() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2))
    nn.utils.parametrizations.spectral_norm(model[0])
    model[0].requires_grad_(False)
    found = failed(verify_model(model, images(8)))
    assert found["same-in-train-and-eval"] == ("0.parametrizations.weight.0",)
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert freeze_(model, FreezePlan(frozen)).verify(images(8)).passed


def test_a_cache_made_for_the_size_of_the_input_is_no_statistic() -> None:
    size = {"img_size": 32, "depth": 3, "embed_dim": 32, "num_heads": 2}
    model = timm.create_model("convit_tiny", local_up_to_layer=2, **size)
    found = freeze_(model, "first-n-stages:n=1", example_input=images()).verify(images())
    assert failed(found) == {}


class Averages(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()), persistent=False)
        self.scale = nn.Parameter(torch.ones(()), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.mean = self.mean.lerp(x.mean(), 0.1)
        return x * self.scale + self.mean


def test_a_statistic_that_the_state_dict_leaves_out_is_found() -> None:
    found = verify_model(nn.Sequential(Averages(), nn.Linear(4, 2)), torch.rand(2, 4))
    assert failed(found)["fixed-statistics"] == ("0.mean",)


def test_dropout_in_a_frozen_block_is_named() -> None:
    vit = timm.create_model("test_vit", proj_drop_rate=0.5, attn_drop_rate=0.5)
    vit.blocks[0].requires_grad_(False)
    found = verify_model(vit, images(160))
    named = failed(found)["same-in-train-and-eval"]
    assert set(named) == {
        "blocks.0.attn",  # its fused attention drops by a function
        "blocks.0.attn.proj_drop",
        "blocks.0.mlp.drop1",
        "blocks.0.mlp.drop2",
    }
    assert "own forward (functional dropout?): 'blocks.0.attn'" in detail(
        found, "same-in-train-and-eval"
    )


class AlwaysDrops(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(self.linear(x))


def test_dropout_that_eval_does_not_stop_is_named() -> None:
    model = nn.Sequential(nn.Flatten(), AlwaysDrops(), nn.Linear(12, 2))
    frozen = freeze_(model, FreezePlan({"1.linear.weight", "1.linear.bias"}))
    found = frozen.verify(images(2))
    assert failed(found) == {"same-in-train-and-eval": ("1",)}
    assert "random in eval mode too: '1'" in detail(found, "same-in-train-and-eval")


class MayDrop(nn.Module):
    """Drops all of a batch now and then, and scales nothing: often there is no difference."""

    def __init__(self, draw: Callable[[], float]) -> None:
        super().__init__()
        self.linear, self.draw = nn.Linear(12, 12), draw

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) * (0 if self.training and self.draw() < 0.3 else 1)


@pytest.mark.parametrize(
    "draw", [lambda: float(torch.rand(())), random.random, lambda: np.random.random()]
)
def test_what_drops_now_and_then_is_found(draw: Callable[[], float]) -> None:
    model = nn.Sequential(nn.Flatten(), MayDrop(draw), nn.Linear(12, 2))
    model[1].requires_grad_(False)
    random.seed(0)
    np.random.seed(0)
    for _ in range(5):
        found = failed(verify_model(model, images(2), steps=1))
        assert found == {"same-in-train-and-eval": ("1",)}


def test_parameters_in_two_groups_or_none(model: nn.Module) -> None:
    model.conv1.requires_grad_(False)
    rest = [p for n, p in model.named_parameters() if n not in ("conv1.weight", "fc.bias")]
    optimizer = torch.optim.SGD(rest, lr=0.1)
    optimizer.param_groups.append({**optimizer.param_groups[0], "params": [model.fc.weight]})
    found = verify_model(model, images(), optimizer=optimizer)
    assert failed(found) == {"parameter-groups": ("fc.bias", "fc.weight")}
    assert detail(found, "parameter-groups") == "1 trainable in no group, 1 in several"


def test_an_optimizer_of_another_model(model: nn.Module) -> None:
    model.conv1.requires_grad_(False)
    optimizer = torch.optim.SGD(copy.deepcopy(model).parameters(), lr=0.1)
    found = verify_model(model, images(), optimizer=optimizer)
    assert "holds no parameter of this model" in detail(found, "parameter-groups")


def test_equal_parameters_are_told_apart() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 2))
    model[1].requires_grad_(False)
    model[3].load_state_dict({k: torch.zeros_like(v) for k, v in model[3].state_dict().items()})
    model[2].bias.data.zero_()
    optimizer = torch.optim.SGD([model[2].weight, *model[3].parameters()], lr=0.1)
    found = verify_model(model, images(2), optimizer=optimizer)
    assert failed(found)["parameter-groups"] == ("2.bias",)


# It finds faults in models that freeze_ froze and somebody changed.


def test_a_deleted_hold_is_found(frozen: Frozen) -> None:
    del frozen.backbone.model.layer1[0].bn1.__dict__["train"]
    found = failed(frozen.verify(images()))
    assert found["same-in-train-and-eval"] == ("layer1.0.bn1",)
    assert "layer1.0.bn1.running_mean" in found["fixed-statistics"]
    assert found.keys() == {"same-in-train-and-eval", "fixed-statistics"}


def test_a_flag_flipped_back_is_found(frozen: Frozen) -> None:
    frozen.backbone.model.layer1[0].conv1.weight.requires_grad_(True)
    found = frozen.verify(images())
    assert failed(found) == {"frozen-weights": ("layer1.0.conv1.weight",)}
    assert "1 with requires_grad, 1 given a gradient" in detail(found, "frozen-weights")


def test_a_trained_flag_switched_off_is_found(frozen: Frozen) -> None:
    frozen.backbone.model.layer3[0].conv1.weight.requires_grad_(False)
    found = failed(frozen.verify(images()))
    assert found == dict.fromkeys(("gradients", "parameter-groups"), ("layer3.0.conv1.weight",))


def test_what_undo_does_not_restore_is_named(frozen: Frozen) -> None:
    model = frozen.backbone.model
    held = model.layer1[0].bn1.__dict__["train"]
    held.before = held  # undo puts back what was there, which is itself
    found = failed(frozen.verify(images()))
    assert found["undo"] == ("layer1.0.bn1",)


def test_verify_model_knows_what_freeze_froze(frozen: Frozen) -> None:
    found = verify_model(frozen.backbone.model, images(), steps=1)
    assert found.passed
    assert [check.name for check in found.checks] == NAMES


# Gradients.


def test_an_unused_auxiliary_head_is_named_and_no_fault() -> None:
    model = googlenet(init_weights=False, num_classes=4)
    frozen = freeze_(model, "first-n-stages:n=1")
    found = frozen.verify(images(64), loss=lambda output: output.logits.square().mean())
    assert found.passed, str(found)
    said = detail(found, "gradients")
    assert "14 get none from this loss, frozen or not: 'aux1.conv.conv.weight'" in said


class Checkpointed(nn.Module):
    """Its second part is checkpointed in the reentrant way, which loses gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.head = nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(checkpoint(self.body, self.stem(x.flatten(1)), use_reentrant=True))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_gradients_lost_behind_a_frozen_prefix_are_found() -> None:
    model = Checkpointed()
    model.stem.requires_grad_(False)
    found = verify_model(model, images(2))
    assert failed(found) == {"gradients": ("body.weight", "body.bias")}
    assert "freezing took it from 2" in detail(found, "gradients")


def test_gradients_that_are_not_finite_fail(frozen: Frozen) -> None:
    found = frozen.verify(images(), loss=lambda output: output.sum() * float("inf"))
    assert failed(found)["gradients"]
    assert "not finite in step 1" in detail(found, "gradients")


def test_nan_in_a_frozen_weight_is_no_change(frozen: Frozen) -> None:
    with torch.no_grad():
        frozen.backbone.model.conv1.weight[0, 0, 0, 0] = float("nan")
    found = frozen.verify(images())
    assert failed(found).keys() == {"gradients"}


class Spare(nn.Module):
    """Has a part that its forward does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.spare, self.head = nn.Linear(12, 4), nn.Linear(1, 1), nn.Linear(4, 2)
        self.body.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x.flatten(1)))


def test_a_stale_gradient_does_not_pass_for_one_that_came() -> None:
    model = Spare()
    model.spare.weight.grad = torch.ones(1, 1)
    said = detail(verify_model(model, images(2)), "gradients")
    assert said.endswith("2 get none from this loss, frozen or not: 'spare.weight', 'spare.bias'")


# Errors.


@pytest.mark.parametrize("steps", [0, -1, 1.5, True])
def test_steps_are_checked(frozen: Frozen, steps: object) -> None:
    with pytest.raises(FreezeError, match=r"expected a whole number of at least 1"):
        frozen.verify(images(), steps=steps)


def test_a_model_on_meta_is_refused() -> None:
    frozen = freeze_(load_backbone("torchvision:resnet18", device="meta"), "head-only")
    with pytest.raises(ModelError, match=r"'conv1.weight' of this ResNet is on 'meta'"):
        frozen.verify()


def test_nothing_frozen_and_nothing_trained(model: nn.Module) -> None:
    with pytest.raises(FreezeError, match="nothing in this ResNet is frozen"):
        verify_model(model, images())
    with pytest.raises(FreezeError, match="all 62 parameters of this ResNet are frozen"):
        verify_model(model.requires_grad_(False), images())


def test_an_input_that_the_model_refuses(frozen: Frozen) -> None:
    with pytest.raises(ModelError, match=r"does not take an input of shape \(2, 4, 32, 32\)"):
        frozen.verify(torch.randn(2, 4, 32, 32))


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda output: output, r"the loss returned \(2, 5\), expected a tensor with one number"),
        (lambda output: 1.0, "the loss returned 1.0"),
        (lambda output: output.detach().sum(), "does not depend on any parameter"),
        (lambda output: output["logits"], "the loss raised IndexError"),
    ],
)
def test_a_loss_that_is_none(frozen: Frozen, loss: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        frozen.verify(images(), loss=loss)


def test_an_optimizer_that_is_none(frozen: Frozen) -> None:
    with pytest.raises(FreezeError, match=r"optimizer is str 'sgd', expected a torch.optim"):
        frozen.verify(images(), optimizer="sgd")


def test_an_optimizer_that_needs_a_closure(frozen: Frozen) -> None:
    optimizer = torch.optim.LBFGS([frozen.backbone.model.fc.weight])
    with pytest.raises(FreezeError, match="optimizer LBFGS failed in step 1: TypeError"):
        frozen.verify(images(), optimizer=optimizer)


def test_a_handle_no_longer_in_force(frozen: Frozen) -> None:
    frozen.undo()
    with pytest.raises(FreezeError, match="no longer in force"):
        frozen.verify(images())


def test_a_model_that_cannot_be_copied(frozen: Frozen) -> None:
    frozen.backbone.model.lock = threading.Lock()
    with pytest.raises(ModelError, match="ResNet cannot be copied to be verified"):
        frozen.verify(images())


# The report.


def test_the_report_fits_80_columns_and_lists_a_few() -> None:
    long = "a sentence of a good many words that does not fit into what is left of one line"
    checks = (
        Check("frozen-weights", True, long),
        Check("same-in-train-and-eval", False, "7 differ", tuple(f"layer{i}" for i in range(7))),
    )
    text = str(Verification(checks, "3 steps of SGD"))
    assert max(map(len, text.splitlines())) <= 80
    assert (
        textwrap.dedent(
            """\
        FAIL  same-in-train-and-eval  7 differ
                layer0
                layer1
                layer2
                layer3
                layer4
                and 2 more

        1 of 2 checks failed on 3 steps of SGD"""
        )
        in text
    )


def test_json_has_every_offender() -> None:
    check = Check("undo", False, "9 differ", tuple("abcdefghi"))
    data = json.loads(Verification((check,), "1 step").to_json())
    assert data["passed"] is False
    assert data["checks"][0]["offenders"] == list("abcdefghi")


class DropsBetween(nn.Module):
    """Functional dropout between two layers: nothing that can be held."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.b(F.dropout(self.a(x), 0.5, self.training)))


def test_dropout_between_frozen_modules_is_found() -> None:
    found = freeze_(DropsBetween(), "head-only", example_input=torch.rand(2, 8)).verify()
    assert failed(found) == {"same-in-train-and-eval": ("b",)}
    assert "between a and b" in detail(found, "same-in-train-and-eval")


class Augments(DropsBetween):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + torch.randn_like(x) * self.training
        return self.head(self.b(self.a(x)))


def test_augmentation_of_the_input_is_no_fault() -> None:
    assert freeze_(Augments(), "head-only", example_input=torch.rand(2, 8)).verify().passed


def test_a_frozen_layer_that_was_replaced_is_missed(frozen: Frozen, model: nn.Module) -> None:
    model.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
    model.bn1 = nn.Identity()
    found = failed(frozen.verify(images()))
    assert "bn1.weight" in found["frozen-weights"]
    assert "conv1.weight" in found["frozen-weights"]


class TurnsNan(nn.Module):
    """Its bias has no finite gradient in the second step only."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.head, self.calls = nn.Linear(8, 8), nn.Linear(8, 2), 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += self.training
        y: torch.Tensor = self.head(self.a(x))
        return y + (self.head.bias * 0).abs().sqrt() if self.calls == 2 else y


@pytest.mark.parametrize("steps", [2, 3])
def test_gradients_are_watched_in_every_step(steps: int) -> None:
    frozen = freeze_(TurnsNan(), "head-only", example_input=torch.rand(2, 8))
    assert "head.bias" in failed(frozen.verify(steps=steps))["gradients"]


class TwoOutputs(DropsBetween):
    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> object:
        features = self.b(self.a(x))
        return {"logits": self.head(features), "other": self.other(features)}


def test_an_output_that_the_loss_leaves_out_is_no_fault_of_the_freezing() -> None:
    frozen = freeze_(TwoOutputs(), "by-name:contains=a.", example_input=torch.rand(2, 8))
    said = detail(frozen.verify(), "gradients")
    assert "2 get none from this loss, frozen or not: 'other.weight', 'other.bias'" in said


class ClippingSGD(torch.optim.SGD):
    def __init__(self, *args: object, clip: float = 1.0, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.clip = clip

    def step(self, closure: object = None) -> object:
        torch.nn.utils.clip_grad_norm_(self.param_groups[0]["params"], self.clip)
        return super().step(closure)


def test_optimizers_with_attributes_of_their_own(frozen: Frozen) -> None:
    from timm.optim import create_optimizer_v2

    before = bits(frozen.backbone.model)
    for optimizer in (
        ClippingSGD(frozen.param_groups(0.1), lr=0.1),
        create_optimizer_v2(frozen.param_groups(0.1), opt="lookahead_adamw", lr=1e-3),
    ):
        assert frozen.verify(images(), optimizer=optimizer).passed
    scheduled = torch.optim.SGD(frozen.param_groups(0.1), lr=0.1)
    torch.optim.lr_scheduler.StepLR(scheduled, 1)
    assert frozen.verify(images(), optimizer=scheduled).passed
    assert bits(frozen.backbone.model) == before


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_a_weight_that_is_computed_is_copied() -> None:
    model = DropsBetween()
    model.head = nn.utils.weight_norm(model.head)
    model(torch.rand(2, 8))
    assert freeze_(model, "by-name:contains=a.", example_input=torch.rand(2, 8)).verify().passed


def test_a_compiled_model_runs_as_it_is(model: nn.Module) -> None:
    model.bn1.requires_grad_(False)
    found = failed(verify_model(torch.compile(model, backend="eager"), images()))
    assert found["same-in-train-and-eval"] == ("_orig_mod.bn1",)


def test_a_copy_that_would_lose_the_holds_is_refused(model: nn.Module) -> None:
    frozen = freeze_(torch.fx.symbolic_trace(model), "first-n-stages:n=1", example_input=images())
    with pytest.raises(ModelError, match=r"a deepcopy of it leaves out what freeze_\(\) put"):
        frozen.verify(images())


def test_a_module_with_a_class_of_its_own_each_time_it_is_copied(model: nn.Module) -> None:
    whole = nn.Sequential(torch.fx.symbolic_trace(model), nn.Linear(5, 2))
    assert freeze_(whole, "first-n-stages:n=1", example_input=images()).verify(images()).passed


class Registers(DropsBetween):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not hasattr(self, "mean"):
            self.register_buffer("mean", x.detach().mean())
        return self.head(self.b(self.a(x - self.mean)))


def test_a_buffer_registered_in_training_is_not_for_undo_to_remove() -> None:
    assert freeze_(Registers(), "head-only", example_input=torch.rand(2, 8)).verify().passed


class NoTimm(DropsBetween):
    no_weight_decay = False


def test_an_attribute_that_only_shares_its_name_with_timm() -> None:
    frozen = freeze_(NoTimm(), "head-only", example_input=torch.rand(2, 8))
    assert len(frozen.param_groups(0.1)) == 2


def test_without_inputs_those_that_staged_the_model_are_used() -> None:
    pair = (torch.rand(2, 4), torch.rand(2, 4))
    assert freeze_(Pair(), "head-only", example_input=pair).verify().passed
    digits = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.Flatten())
    digits.append(nn.Linear(4 * 24 * 24, 10))
    found = freeze_(digits, "head-only").verify()
    assert found.passed
    assert "input (2, 1, 28, 28)" in str(found)


class Forces(nn.Module):
    """Takes gradients within its forward, through the frozen part."""

    def __init__(self, drop: float = 0.0) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(drop))
        self.head = nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            energy = self.head(self.body(x))
            return torch.autograd.grad(energy.sum(), x, create_graph=True)[0]


def test_gradients_within_the_forward_are_no_fault() -> None:
    model = Forces()
    assert freeze_(model, "by-name:contains=body").verify(torch.rand(2, 4)).passed
    model = Forces(drop=0.5)
    model.body.requires_grad_(False)
    found = failed(verify_model(model, torch.rand(2, 4)))
    assert found["same-in-train-and-eval"] == ("body.2",)


class Recurrent(nn.Module):
    def __init__(self, drop: float) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(4, 8, 2, batch_first=True, dropout=drop), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(x)[0][:, -1])


def test_a_kernel_that_rounds_otherwise_without_gradients_is_no_fault() -> None:
    x = torch.rand(2, 5, 4)
    for drop in (0.0, 0.5):
        found = freeze_(Recurrent(drop), "by-name:contains=rnn").verify(x)
        assert found.passed, str(found)
    model = Recurrent(0.5)
    model.rnn.requires_grad_(False)
    assert failed(verify_model(model, x)) == {"same-in-train-and-eval": ("rnn",)}


def test_dropout_inside_a_layer_with_a_fast_path_is_named() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.Sequential(layer.requires_grad_(False), nn.Linear(8, 2))
    named = failed(verify_model(model, torch.rand(2, 5, 8)))["same-in-train-and-eval"]
    assert {"0.self_attn", "0.dropout1", "0.dropout", "0.dropout2"} <= set(named)
    assert torch.backends.mha.get_fastpath_enabled()
