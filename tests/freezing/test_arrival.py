"""Undo finds parameters again after the model was changed: by identity, place and name."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from freezekit import FreezekitWarning, FreezePlan, freeze_

if TYPE_CHECKING:
    from collections.abc import Callable


class Adapter(nn.Module):
    """A layer becomes `base_layer` of a new one, as adapters do it."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base
        self.weight = nn.Parameter(torch.zeros(2, 2))  # the name that the layer's own had

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base_layer(x) + x @ self.weight


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.last = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x).relu())


FIRST = FreezePlan({"first.weight", "first.bias"})


def put_on(model: nn.Module) -> None:
    model.first = Adapter(model.first)


def put_on_and_normalise(model: nn.Module) -> None:
    put_on(model)
    parametrizations.weight_norm(model.first.base_layer)


def normalise_and_take_off(model: nn.Module) -> None:
    parametrizations.weight_norm(model.first)
    parametrize.remove_parametrizations(model.first, "weight")


def prune_for_good(model: nn.Module) -> None:
    prune.l1_unstructured(model.first, "weight", 0.5)
    prune.remove(model.first, "weight")


def assign(model: nn.Module) -> None:
    model.load_state_dict(copy.deepcopy(model.state_dict()), assign=True)


CHANGES = {
    "nothing": lambda m: None,
    "prune": lambda m: prune.l1_unstructured(m.first, "weight", 0.5),
    "prune for good": prune_for_good,
    "weight_norm": lambda m: parametrizations.weight_norm(m.first),
    "weight_norm taken off": normalise_and_take_off,
    "spectral_norm": lambda m: parametrizations.spectral_norm(m.first),
    "orthogonal": lambda m: parametrizations.orthogonal(m.first),
    "spectral_norm by hooks": lambda m: nn.utils.spectral_norm(m.first),
    "adapter": put_on,
    "adapter and weight_norm": put_on_and_normalise,
    "assigned": assign,
}


@pytest.mark.parametrize("copied", [False, True], ids=["itself", "copy"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_undo_thaws_what_was_renamed_meanwhile(
    change: Callable[[nn.Module], object], copied: bool
) -> None:
    model = Net()
    frozen = freeze_(model, FIRST)
    if copied:
        model = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    change(model)
    if copied:  # the copy has no handle
        with (
            pytest.warns(FreezekitWarning, match="thaws")
            if any(not p.requires_grad for p in model.parameters())
            else nullcontext()
        ):
            freeze_(model, FreezePlan()).undo()
    else:
        frozen.undo()
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == []


def test_undo_leaves_frozen_what_arrived_frozen_under_another_name() -> None:
    model = Net()
    model.first.requires_grad_(False)
    frozen = freeze_(model, FIRST)
    put_on(model)
    model.first.weight.requires_grad_(True)
    frozen.undo()
    left = [n for n, p in model.named_parameters() if not p.requires_grad]
    assert left == ["first.base_layer.weight", "first.base_layer.bias"]


def test_what_leaves_the_model_is_not_kept_alive() -> None:
    model = Net()
    frozen = freeze_(model, FIRST)
    gone = weakref.ref(model.last.weight)
    model.last = nn.Linear(2, 3)
    gc.collect()
    assert gone() is None
    frozen.undo()
    assert all(p.requires_grad for p in model.parameters())
