"""What `verify --compile` compares; tests/cli/test_compile.py compiles."""

from __future__ import annotations

import torch
from torch import nn

from freezekit.verify.compiled import same_as_stock
from freezekit.verify.training import TrainedCopy


def trained(*losses: float) -> TrainedCopy:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    return TrainedCopy(model, torch.optim.SGD(model.parameters()), {}, losses)


def test_the_same_bits_pass_a_nan_too() -> None:
    check = same_as_stock(trained(1.0, float("nan")), trained(1.0, float("nan")))
    assert (check.passed, check.offenders) == (True, ())
    assert check.detail.startswith("7 tensors and all losses")


def test_a_bit_of_a_buffer_and_a_loss_are_told() -> None:
    other = trained(1.0, 2.0)
    other.model[1].running_mean[0] = 1e-30
    check = same_as_stock(other, trained(1.0, 2.5))
    assert (check.passed, check.offenders) == (False, ("1.running_mean",))
    assert check.detail.startswith("1 of 7 tensors and the loss of 1 step differ")
