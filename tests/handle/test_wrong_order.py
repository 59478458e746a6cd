"""What people do in the wrong order: the handle notices it, and says what to do."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import timm
import torch
from torch import nn

from freezekit import FreezeError, Frozen, freeze_

if TYPE_CHECKING:
    from collections.abc import Callable

IMAGES = torch.rand(2, 3, 32, 32)
CAME_LATER = "trained parameter(s) came after param_groups() was called"


def frozen_net(spec: str = "first-n-stages:n=2") -> Frozen:
    return freeze_(timm.create_model("test_resnet", num_classes=4), spec)


def report(frozen: Frozen, *args: Any) -> str:
    return " ".join(frozen.report(*args).split())


def head_of_the_same_shape(model: Any) -> None:
    model.fc = nn.Linear(model.fc.in_features, 4)


def reset_classifier(model: Any) -> None:
    model.reset_classifier(4)


def load_with_assign(model: Any) -> None:
    model.load_state_dict(copy.deepcopy(model.state_dict()), assign=True)


ANEW = pytest.mark.parametrize(
    "act", [head_of_the_same_shape, reset_classifier, load_with_assign], ids=lambda f: f.__name__
)


@ANEW
def test_parameters_that_came_after_the_groups_are_told(act: Callable[[Any], None]) -> None:
    frozen = frozen_net()
    early = torch.optim.SGD(frozen.param_groups(0.1, all_phases=True))
    assert CAME_LATER not in report(frozen)
    act(frozen.backbone.model)
    assert f"{CAME_LATER}: '" in report(frozen)
    assert "in no group of the SGD: '" in report(frozen, early)
    assert "parameter(s) of the SGD are not in the model" in report(frozen, early)
    found = frozen.verify(IMAGES)
    assert CAME_LATER in " ".join(str(found).split())
    assert any(CAME_LATER in note for note in found.notes)
    with pytest.raises(FreezeError, match=r"holds no parameter|does not hold 2"):
        frozen.change_("full", early)
    assert frozen.plan.frozen  # nothing changed

    late = torch.optim.SGD(frozen.param_groups(0.1))
    assert CAME_LATER not in report(frozen)
    assert "warning" not in report(frozen, late)


def test_an_optimizer_that_is_made_too_early_ignores_multipliers() -> None:
    model = timm.create_model("test_resnet", num_classes=4)
    early = torch.optim.AdamW(model.parameters(), lr=0.001)
    frozen = freeze_(model, "discriminative-lr:decay=0.5")
    told = report(frozen, early)
    assert "ignored, as all parameters have the learning rate 0.001: make the optimizer of" in told
    rows = [line.split() for line in frozen.report(early).splitlines()]
    assert all(row[-1] == "0.001" for row in rows if row[0] in ("stem", "head"))
    own = torch.optim.AdamW(frozen.param_groups(0.001))
    assert "warning" not in report(frozen, own)
    assert "0.0005" in report(frozen, own)


def test_what_is_thawed_later_is_in_the_groups_of_all_phases_alone() -> None:
    frozen = frozen_net("head-only")
    optimizer = torch.optim.SGD(frozen.param_groups(0.1, all_phases=True))
    frozen.change_("full", optimizer)
    assert CAME_LATER not in report(frozen)

    frozen = frozen_net("head-only")
    frozen.param_groups(0.1)
    with pytest.warns(UserWarning, match="thaws"):
        frozen.change_("full")
    assert CAME_LATER in report(frozen)


def test_an_optimizer_of_a_copy_holds_nothing_of_the_model() -> None:
    frozen = frozen_net()
    other = copy.deepcopy(frozen.backbone.model)
    told = report(frozen, torch.optim.SGD(other.parameters(), 0.1))
    assert "none" in told
    assert "it was made before the model changed, or for another one" in told


@pytest.mark.parametrize("given", ["x", nn.Linear(1, 1), []])
def test_a_report_of_what_is_no_optimizer_is_refused(given: Any) -> None:
    with pytest.raises(FreezeError, match=r"report\(\) was given a \w+, expected the optimizer"):
        frozen_net().report(given)


def test_modes_set_by_hand_are_told_until_the_next_train() -> None:
    frozen = frozen_net()
    model = frozen.backbone.model
    model.bn1.training = True
    assert "1 held module(s) are in training mode until the next train() or eval(): 'bn1'" in (
        report(frozen)
    )
    model.train()
    assert "departed" not in report(frozen)


def test_a_verification_says_where_the_model_departed_from_its_plan() -> None:
    frozen = frozen_net()
    assert frozen.verify(IMAGES).notes == ()
    frozen.backbone.model.extra = nn.Linear(1, 1)
    found = frozen.verify(IMAGES)
    assert "2 new parameter(s) are trained: 'extra.bias', 'extra.weight'" in found.notes[0]
    assert found.to_json().count("new parameter(s)") == 1
