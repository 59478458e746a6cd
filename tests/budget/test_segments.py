"""Modules that are computed again: what could make the second run differ from the first."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from freezekit.budget.fake_step import FakeStep
from freezekit.budget.observe import observe
from freezekit.budget.segments import SegmentForward
from freezekit.lean import Lean

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit.budget.records import Candidate


class Body(nn.Module):
    """A batch norm, dropout and two products."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 32), nn.Linear(32, 8)
        self.norm = nn.BatchNorm1d(32)
        self.drop = nn.Dropout(0.5)

    def forward(self, rows: Tensor) -> Tensor:
        found: Tensor = self.second(self.drop(torch.tanh(self.norm(self.first(rows)))))
        return found


def pair(*names: str) -> tuple[nn.Sequential, nn.Sequential]:
    """Return two copies of a model; modules of the second are computed again."""
    torch.manual_seed(0)
    stock = nn.Sequential(nn.Linear(8, 8), Body(), Body(), nn.Linear(8, 2)).double()
    again = copy.deepcopy(stock)
    for name in names or ("1", "2"):
        SegmentForward(again.get_submodule(name)).attach()
    return stock, again


def compare(stock: nn.Module, again: nn.Module, step: Callable[[nn.Module], Tensor]) -> None:
    results = []
    for model in (stock, again):
        torch.manual_seed(1)
        loss = step(model)
        results.append(
            [
                loss.detach(),
                *(p.grad for p in model.parameters() if p.grad is not None),
                *model.buffers(),
                torch.get_rng_state(),
            ]
        )
    assert len(results[0]) == len(results[1])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


ROWS = torch.arange(32.0, dtype=torch.float64).view(4, 8) / 10


def test_random_numbers_and_statistics_are_those_of_one_run() -> None:
    def step(model: nn.Module) -> Tensor:
        for _ in range(3):
            loss: Tensor = model(ROWS).square().sum()
            loss.backward()
        return loss

    compare(*pair(), step)


def test_second_order_gradients() -> None:
    def step(model: nn.Module) -> Tensor:
        rows = ROWS.clone().requires_grad_()
        (slope,) = torch.autograd.grad(model(rows).square().sum(), rows, create_graph=True)
        loss: Tensor = slope.square().sum()
        loss.backward()
        return loss

    compare(*pair(), step)


def test_two_backward_passes() -> None:
    def step(model: nn.Module) -> Tensor:
        loss: Tensor = model(ROWS).square().sum()
        loss.backward(retain_graph=True)
        loss.backward()
        return loss

    compare(*pair(), step)


def test_mode_changes_before_backward() -> None:
    def step(model: nn.Module) -> Tensor:
        loss: Tensor = model.train()(ROWS).square().sum()
        model.eval()
        loss.backward()
        assert not any(module.training for module in model.modules())
        return loss

    compare(*pair(), step)


def test_two_forwards_before_backward() -> None:
    def step(model: nn.Module) -> Tensor:
        loss: Tensor = model(ROWS).square().sum() + model(-ROWS).square().sum()
        loss.backward()
        return loss

    compare(*pair(), step)


def test_lean_around_it() -> None:
    stock, again = pair()
    for name in ("0.weight", "1.first.weight", "2.second.weight"):
        for model in (stock, again):
            model.get_parameter(name).requires_grad_(False)
    lean = Lean(again)
    lean.attach()

    def step(model: nn.Module) -> Tensor:
        loss: Tensor = model(ROWS).square().sum()
        loss.backward()
        return loss

    compare(stock, again, step)


def test_hooks_inside_run_once() -> None:
    _, again = pair()
    seen: list[str] = []
    again[1].register_forward_hook(lambda *_: seen.append("outside"))
    again[1].first.register_forward_hook(lambda *_: seen.append("inside"))
    again(ROWS).sum().backward()
    assert seen == ["inside", "outside"]


def test_hooks_of_others_on_saved_tensors_see_everything() -> None:
    stock, again = pair()

    def step(model: nn.Module) -> Tensor:
        with torch.autograd.graph.save_on_cpu():
            loss: Tensor = model(ROWS).square().sum()
        loss.backward()
        return loss

    compare(stock, again, step)


def test_compiled_it_runs_as_it_is() -> None:
    stock, again = pair()

    def step(model: nn.Module) -> Tensor:
        loss: Tensor = torch.compile(model.eval(), backend="eager")(ROWS).square().sum()
        loss.backward()
        return loss

    compare(stock, again, step)


def test_an_argument_that_changes_is_an_error() -> None:
    _, again = pair("1")
    rows = ROWS.clone()
    loss = again[1](rows).sum()
    rows.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_parameter_that_changes_is_an_error() -> None:
    _, again = pair("1")
    loss = again(ROWS).sum()
    with torch.no_grad():
        again[1].second.bias.add_(1)
    with pytest.raises(RuntimeError, match="parameter needed for gradient computation"):
        loss.backward()


class OnLists(nn.Module):
    """The caller appends to the list that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.product = nn.Linear(8, 8, dtype=torch.float64)

    def forward(self, features: list[Tensor], *, scale: Tensor) -> dict[str, Tensor]:
        return {"out": torch.tanh(self.product(sum(features, torch.zeros(())))) * scale}


def test_lists_are_those_of_the_first_run() -> None:
    stock = OnLists()
    again = copy.deepcopy(stock)
    SegmentForward(again).attach()

    def step(model: nn.Module) -> Tensor:
        features = [ROWS.clone().requires_grad_()]
        for _ in range(3):
            features.append(model(features, scale=ROWS)["out"])
        loss = features[-1].sum()
        loss.backward()
        return loss

    compare(stock, again, step)


class InPlace(nn.Module):
    def forward(self, rows: Tensor) -> Tensor:
        return torch.tanh(rows.mul_(2))


class Counting(nn.Module):
    calls = 0

    def forward(self, rows: Tensor) -> Tensor:
        self.calls += 1000
        return torch.tanh(rows)


class Averaging(nn.Module):
    """Its output depends on a buffer that it changes."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("average", torch.zeros(8))

    def forward(self, rows: Tensor) -> Tensor:
        with torch.no_grad():
            self.average += rows.mean(0)
        return torch.tanh(rows - self.average)


class Wide(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 8))


def names_of(candidates: tuple[Candidate, ...]) -> set[str]:
    found = {each.name for each in candidates}
    return found.union(*(names_of(each.inside) for each in candidates))


@pytest.mark.parametrize("kind", [InPlace, Counting, Averaging])
def test_what_changes_something_is_no_candidate(kind: type[nn.Module]) -> None:
    class Around(nn.Sequential):
        pass

    model = nn.Sequential(Around(Wide(), kind(), Wide()), Wide())
    found = names_of(observe(FakeStep(model, (torch.ones(4, 8),), {})).candidates)
    assert {"0.0", "0.2", "1"} <= found
    assert "0.1" not in found
    assert ("0" in found) == (kind is InPlace)  # what it changes is its own


def test_neither_is_what_is_called_twice_nor_what_is_changed_later() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.once, self.twice, self.before = Wide(), Wide(), Wide()

        def forward(self, rows: Tensor) -> Tensor:
            rows = self.twice(self.twice(self.once(rows)))
            rows = rows * 1
            added = self.before(rows)
            return rows.add_(added)

    model = Model()
    model.before.requires_grad_(False)
    found = names_of(observe(FakeStep(model, (torch.ones(4, 8),), {})).candidates)
    assert "once" in found
    assert not {"twice", "before"} & found
