"""A memory budget, where a cache takes the place of the frozen prefix."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from freezekit import freeze_
from freezekit.budget import BudgetedLean
from freezekit.budget.segments import SegmentForward


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(*(_layer(n, 16) for n in (3, *[16] * 6)))
        self.fc = nn.Linear(16, 4)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.fc(self.body(images).mean((2, 3)))
        return found


def _layer(before: int, after: int) -> nn.Module:
    conv = nn.Conv2d(before, after, 3, padding=1)
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.GELU())


def train(lean: bool | str, inside: str = "") -> tuple[nn.Module, list[Tensor]]:
    """Train on features; `inside` names a module that is computed again."""
    torch.manual_seed(0)
    model = Net()
    frozen = freeze_(model, "first-n-stages:n=2", lean=lean)
    if inside:
        SegmentForward(model.get_submodule(inside)).attach()
    cached = frozen.cache(TensorDataset(torch.randn(8, 3, 32, 32), torch.arange(8) % 4), 4)
    optimizer = torch.optim.SGD(frozen.param_groups(lr=0.1))
    for features, labels in DataLoader(cached, batch_size=4):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model.train()(features), labels).backward()
        optimizer.step()
    return model, [*model.state_dict().values()]


def check_same(first: list[Tensor], second: list[Tensor]) -> None:
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_chooses_in_the_training_on_features() -> None:
    _, stock = train(lean=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model, found = train(lean="budget:2800KiB")
    check_same(found, stock)
    lean = vars(model)["forward"].before._lean
    assert isinstance(lean, BudgetedLean)
    assert lean.choice is not None
    assert lean.choice.fits
    assert lean.recomputed


@pytest.mark.parametrize("inside", ["body", "body.5"])
def test_what_holds_a_part_of_the_prefix_is_not_computed_again(inside: str) -> None:
    """Else its second run would compute the skipped part of images that are not there."""
    check_same(train(lean=False, inside=inside)[1], train(lean=False)[1])
