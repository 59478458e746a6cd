"""Copies of models with forward hooks: faithful, and without effect on what is outside of them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
import timm
import torch
from torch import Tensor, nn

import freezekit
from freezekit.errors import StagingError
from freezekit.model.copies import deep_copies, hooks_left_out, meta_copy, real_copy
from freezekit.model.flops import forward_flops
from freezekit.model.outside import caches_kept
from freezekit.model.reach import reachable
from freezekit.staging.observing import observe

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

IMAGES = torch.rand(2, 3, 16, 16)


def made(make: Callable[[], nn.Module], *, used: bool = False) -> nn.Module:
    torch.manual_seed(0)
    model = make().eval()
    if used:  # what hooks kept then has a graph
        model(IMAGES)
    return model


def state(model: nn.Module, hooked: ModuleType) -> list[Tensor]:
    """Return all tensors that the model, its hooks and the variables of `hooked` refer to."""
    # Not its loader, which is pytest's, and refers to all tests of the run.
    own = {name: value for name, value in vars(hooked).items() if not name.startswith("__")}
    variables = own, dict(vars(hooked.ClassVariable))
    return [item for item in reachable(model, *variables) if isinstance(item, Tensor)]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return list(map(id, one)) == list(map(id, other))


@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
def test_outputs_of_copies_are_those_of_the_model(
    make: Callable[[], nn.Module], used: bool, hooked: ModuleType
) -> None:
    model = made(make, used=used)
    before = state(model, hooked)
    with caches_kept(model):
        on_meta = meta_copy(model)(IMAGES.to("meta"))
        real = real_copy(model)(IMAGES)
        with_modes = deep_copies(model)[0](IMAGES)
    assert same(before, state(model, hooked))
    expected = model(IMAGES)
    assert on_meta.is_meta
    assert on_meta.shape == expected.shape
    assert torch.equal(real, expected)
    assert torch.equal(with_modes, expected)
    assert hooks_left_out(model) == {}


def test_gradients_of_copies_stay_in_copies(make: Callable[[], nn.Module]) -> None:
    model = made(make)
    with caches_kept(model):
        copied = deep_copies(model)[0]
        copied(IMAGES).sum().backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(parameter.grad is not None for parameter in copied.parameters())


def test_such_models_are_staged_frozen_and_verified(
    make: Callable[[], nn.Module], hooked: ModuleType
) -> None:
    model = made(make)
    before = state(model, hooked)
    found = freezekit.Backbone(model, IMAGES)
    kinds = [stage.kind for stage in found.stages]
    assert kinds[0] == "stem"
    assert "body" in kinds
    assert found.flops["encoder.0.0"] == forward_flops(model.encoder[0][0], IMAGES)[""]
    assert same(before, state(model, hooked))
    frozen = freezekit.freeze_(model, "first-n-stages:n=1", example_input=IMAGES)
    assert {n for n, p in model.named_parameters() if not p.requires_grad} >= {"encoder.0.0.weight"}
    assert frozen.verify(IMAGES, steps=1).passed


def test_hooks_of_the_backward_pass_are_left_out(hooked: ModuleType) -> None:
    model, seen = made(hooked.KeyedByModule), []
    model.head.register_full_backward_hook(lambda *given: seen.append(given))
    for copied in (meta_copy(model), real_copy(model)):
        given = IMAGES.to(next(copied.parameters()).device)
        copied(given).sum().backward()
    assert seen == []
    assert len(model.head._backward_hooks) == 1


def test_a_copied_handle_removes_the_hook_of_the_copy(hooked: ModuleType) -> None:
    model = made(hooked.ObjectOfItsOwn)
    copied = real_copy(model)
    copied.hooks[0].handle.remove()
    assert not copied.encoder[0]._forward_hooks
    assert len(model.encoder[0]._forward_hooks) == 1


class Locks:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.outputs: list[Tensor] = []

    def keep(self, _module: nn.Module, _args: Any, output: Tensor) -> None:
        with self.lock:
            self.outputs.append(output)


LOCKS = Locks()


@pytest.mark.parametrize(
    "hook",
    [
        Locks().keep,
        lambda *given, own=Locks(): own.keep(*given),  # noqa: B008  # this is the case
        lambda *given: LOCKS.keep(*given),
    ],
    ids=["method", "default", "global"],
)
def test_a_hook_that_cannot_be_copied_is_left_out(hook: Any, hooked: ModuleType) -> None:
    model = made(hooked.KeyedByModule)
    model.encoder[2].register_forward_hook(hook)
    assert hooks_left_out(model) == {"encoder.2": "TypeError: cannot pickle '_thread.lock' object"}
    assert observe(model, IMAGES).calls
    assert LOCKS.outputs == []
    assert len(model.encoder[2]._forward_hooks) == 1


def test_where_such_a_hook_is_needed_the_error_names_it(hooked: ModuleType) -> None:
    class Needs(hooked.Hooked):
        def register(self) -> None:
            object.__setattr__(self, "get", lambda: LOCKS.outputs[-1])
            self.encoder[0].register_forward_hook(LOCKS.keep)

        def skip(self) -> Tensor:
            return LOCKS.outputs[-1]

    with pytest.raises(
        StagingError, match=r"without the forward hooks on 'encoder\.0', which"
    ) as e:
        observe(made(Needs), IMAGES)
    assert "_thread.lock" in str(e.value)
    assert "image size" not in str(e.value)


def test_an_error_that_is_not_about_the_size_does_not_speak_of_it(hooked: ModuleType) -> None:
    class Fails(hooked.KeyedByModule):
        def skip(self) -> Tensor:
            return self.kept["encoder"]

    with pytest.raises(StagingError, match=r"its forward hooks on 'encoder\.0' ran on a copy") as e:
        observe(made(Fails), IMAGES)
    assert "KeyError" in str(e.value)
    assert "image size" not in str(e.value)


def test_hooks_that_read_values_run_on_a_copy_with_data(hooked: ModuleType) -> None:
    model, means = made(hooked.KeyedByModule), []
    model.encoder[0].register_forward_hook(
        lambda _m, _a, output: means.append(output.mean().item())
    )
    assert observe(model, IMAGES).calls
    assert forward_flops(model, IMAGES)["encoder"] > 0
    assert means == []


class CountsForwards(nn.Sequential):
    forwards = 0
    cache: Any = None

    def forward(self, x: Tensor) -> Tensor:
        CountsForwards.forwards += 1
        CountsForwards.cache = x
        return super().forward(x)


def test_variables_of_classes_are_restored() -> None:
    observe(CountsForwards(nn.Conv2d(3, 4, 3), nn.ReLU()), IMAGES)
    assert (CountsForwards.forwards, CountsForwards.cache) == (0, None)


@pytest.mark.parametrize("name", ["pit_ti_224", "legacy_xception", "resnet18", "vgg11"])
def test_timms_features_by_hooks(name: str) -> None:
    with torch.device("meta"):
        given = torch.empty(2, 3, 224, 224)
        model = timm.create_model(name, features_only=True, feature_cls="hook")
    assert any(module._forward_hooks for module in model.modules())
    found = freezekit.Backbone(model, given)
    assert found.stages[0].kind == "stem"
    assert sum(stage.kind == "body" for stage in found.stages) >= 3
    assert found.flops[""] > 1e8
    assert freezekit.plan(model, "first-n-stages:n=1", example_input=given).frozen
