"""A second freeze_ that thaws says who does not know of it."""

from __future__ import annotations

import subprocess
import sys
import warnings
from typing import TYPE_CHECKING

import pytest
from torch import nn

from freezekit import FreezekitWarning, FreezePlan, freeze_

if TYPE_CHECKING:
    from pathlib import Path


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))


def first(count: int) -> FreezePlan:
    return FreezePlan(f"{i}.{what}" for i in range(count) for what in ("weight", "bias"))


def test_thawing_a_frozen_model_warns_of_optimizers() -> None:
    model = net()
    freeze_(model, first(2))
    with pytest.warns(FreezekitWarning) as caught:
        freeze_(model, first(1))
    (warning,) = caught
    assert warning.filename == __file__
    assert "thaws 2 parameter(s) that were frozen so far: '1.weight', '1.bias'." in str(
        warning.message
    )
    assert "change_() of the handle" in str(warning.message)
    assert "rank" not in str(warning.message)


def test_freezing_more_or_after_undo_says_nothing() -> None:
    model = net()
    freeze_(model, first(1))
    frozen = freeze_(model, first(2))
    frozen.undo()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        freeze_(model, first(1))


def test_a_warning_that_is_an_error_leaves_the_earlier_plan_in_force() -> None:
    model = net()
    frozen = freeze_(model, first(2))
    with pytest.raises(FreezekitWarning):  # as pytest is told to
        freeze_(model, first(1))
    assert frozen.param_groups(lr=1.0)
    assert not model[1].weight.requires_grad


RANK = """
import sys, warnings
from torch import distributed, nn
from freezekit import FreezePlan, freeze_

distributed.init_process_group(
    "gloo", init_method=f"file://{sys.argv[1]}", rank=int(sys.argv[2]), world_size=2
)
model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
freeze_(model, FreezePlan({"0.weight"}))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    freeze_(model, FreezePlan())
print(caught[0].message)
distributed.destroy_process_group()
"""


def test_in_a_process_group_it_says_that_ddp_must_be_wrapped_anew(tmp_path: Path) -> None:
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(tmp_path / "meet"), str(rank)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for rank in ranks:
        out, _ = rank.communicate(timeout=300)
        assert "has 2 ranks" in out
        assert "wrap the model anew after freeze_()" in out
