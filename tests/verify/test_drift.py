"""Differences between the modes that arise between frozen modules: true ones, and others."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from freezekit import Verification, freeze_, verify_model

X = torch.rand(4, 8)


class Cell(nn.Module):
    """A fixed point: a frozen cell is called again and again, without gradients at first.

    What comes to it from the second call on has passed a norm that is trained.
    """

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.one, self.two, self.cell = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.norm, self.head, self.dropout = nn.BatchNorm1d(8), nn.Linear(8, 2), dropout

    def forward(self, x: Tensor) -> Tensor:
        x = self.two(F.dropout(self.one(x), self.dropout, self.training))
        z = torch.zeros_like(x)
        with torch.no_grad():
            for _ in range(3):
                z = torch.tanh(self.norm(self.cell(z) + x))
        return self.head(self.norm(self.cell(z) + x))


class Detached(nn.Module):
    """A frozen teacher looks at what a trained norm gives, and no gradient flows back."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.teacher, self.head = nn.BatchNorm1d(8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.first = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x))
        return self.head(x) - self.teacher(x.detach())


def drift(found: Verification) -> tuple[str, ...]:
    check = next(c for c in found.checks if c.name == "same-in-train-and-eval")
    return check.offenders


@pytest.mark.parametrize("build", [Cell, Detached])
def test_what_is_trained_may_reach_frozen_modules_without_a_gradient(
    build: type[nn.Module],
) -> None:
    model = build()
    frozen = freeze_(model, "norm-only", example_input=X)
    found = frozen.verify(X)
    assert found.passed, str(found)


def test_dropout_before_what_is_trained_is_found_all_the_same() -> None:
    model = Cell(dropout=0.5)
    for part in (model.one, model.two, model.cell):
        part.requires_grad_(False)
    assert drift(verify_model(model, X)) == ("two",)
