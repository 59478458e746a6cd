"""Models that capture hidden states by hooks of their own, put on in the first forward."""

from __future__ import annotations

import functools
from contextvars import ContextVar
from typing import TYPE_CHECKING

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from freezekit import freeze_, verify_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit import Verification

X = torch.rand(2, 8)


def failed(found: Verification) -> dict[str, tuple[str, ...]]:
    return {check.name: check.offenders for check in found.checks if not check.passed}


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm, self.drop = nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.drop(self.norm(self.linear(x)))


class Encoder(nn.Module):
    def __init__(self, block: Callable[[], nn.Module] = Block) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(block() for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Captures(nn.Module):
    """The head reads the hidden states that hooks on the blocks append to a list."""

    def __init__(self, block: Callable[[], nn.Module] = Block) -> None:
        super().__init__()
        self.encoder, self.head = Encoder(block), nn.Linear(24, 2)
        self.states: list[torch.Tensor] = []
        self.is_hooked = False

    def capture(self) -> None:
        for block in self.encoder.blocks:
            block.register_forward_hook(lambda _, __, output: self.states.append(output))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.states = []
        if not self.is_hooked:
            self.capture()
            self.is_hooked = True
        self.encoder(x)
        return self.head(torch.cat(self.states, 1))


class ByMethod(Captures):
    """The hooks are bound methods."""

    def keep(self, _: nn.Module, __: object, output: torch.Tensor) -> None:
        self.states.append(output)

    def capture(self) -> None:
        for block in self.encoder.blocks:
            block.register_forward_hook(self.keep)


class FromTheList(Captures):
    """The list is emptied, not replaced, and the hooks refer to it alone."""

    def capture(self) -> None:
        def append(_: object, __: object, output: torch.Tensor, states: list = self.states) -> None:
            states.append(output)

        for block in self.encoder.blocks:
            block.register_forward_hook(append)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.states.clear()
        if not self.is_hooked:
            self.capture()
            self.is_hooked = True
        self.encoder(x)
        return self.head(torch.cat(self.states, 1))


class InTheEncoder(nn.Module):
    """The frozen part itself captures."""

    def __init__(self, block: Callable[[], nn.Module] = Block) -> None:
        super().__init__()
        self.encoder, self.head = Captures(block), nn.Linear(8, 2)
        self.encoder.head = nn.Linear(24, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(x))


ACTIVE: ContextVar[list[torch.Tensor] | None] = ContextVar("ACTIVE", default=None)


class InAContext(Captures):
    """Hooks stay, and act only while a forward collects: as in transformers."""

    def capture(self) -> None:
        def append(_: object, __: object, output: torch.Tensor) -> None:
            states = ACTIVE.get()
            if states is not None:
                states.append(output)

        for block in self.encoder.blocks:
            block.register_forward_hook(append)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.is_hooked:
            self.capture()
            self.is_hooked = True
        states: list[torch.Tensor] = []
        token = ACTIVE.set(states)
        try:
            self.encoder(x)
        finally:
            ACTIVE.reset(token)
        return self.head(torch.cat(states, 1))


class ForTheForward(Captures):
    """The forward of each block is replaced while the model runs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states: list[torch.Tensor] = []

        def capturing(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
            @functools.wraps(original)
            def forward(*args: object) -> torch.Tensor:
                states.append(original(*args))
                return states[-1]

            return forward

        before = [block.forward for block in self.encoder.blocks]
        try:
            for block in self.encoder.blocks:
                block.forward = capturing(block.forward)
            self.encoder(x)
        finally:
            for block, forward in zip(self.encoder.blocks, before, strict=True):
                block.forward = forward
        return self.head(torch.cat(states, 1))


KINDS = [Captures, ByMethod, FromTheList, InTheEncoder, InAContext, ForTheForward]


@pytest.mark.parametrize("has_run", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_captures_its_states_is_proved(kind: type[nn.Module], has_run: bool) -> None:
    model = kind()
    if has_run:  # its hooks are in place, and its list holds outputs with a graph
        model(X)
    frozen = freeze_(model, "by-name:contains=blocks.0|blocks.1", example_input=X)
    states = [id(state) for state in getattr(model, "states", [])]
    found = frozen.verify(X)
    assert failed(found) == {}
    assert [id(state) for state in getattr(model, "states", [])] == states
    frozen.undo()
    model.encoder.requires_grad_(False)
    assert failed(verify_model(model, X)).keys() == {
        "fixed-statistics",
        "same-in-train-and-eval",
    }


class DropsByFunction(Block):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(F.dropout(x, 0.5))


@pytest.mark.parametrize("kind", KINDS)
def test_faults_are_found_in_such_models(kind: type[nn.Module]) -> None:
    model = kind(DropsByFunction)
    frozen = freeze_(model, "by-name:contains=blocks.0|blocks.1", example_input=X)
    blocks = {name for name, m in model.named_modules() if isinstance(m, DropsByFunction)}
    found = failed(frozen.verify(X))
    assert found.keys() == {"same-in-train-and-eval"}
    assert set(found["same-in-train-and-eval"]) == set(sorted(blocks)[:2])


class CountsCalls(nn.Module):
    """Fails if a block is called twice within one forward."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head, self.calls = Encoder(), nn.Linear(8, 2), 0
        self.encoder.blocks[0].drop.register_forward_hook(self.count)

    def count(self, *_: object) -> None:
        self.calls += 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls = 0
        x = self.encoder(x)
        assert self.calls == 1
        return self.head(x)


@pytest.mark.parametrize("block", [0, 1])
def test_no_module_is_called_twice_within_a_forward(block: int) -> None:
    model = CountsCalls()
    model.encoder.blocks[block].requires_grad_(False)
    assert "same-in-train-and-eval" in failed(verify_model(model, X))


def test_a_list_of_the_user_gets_nothing_from_the_copy() -> None:
    model = CountsCalls()
    outputs: list[torch.Tensor] = []
    model.encoder.blocks[0].register_forward_hook(lambda _, __, output: outputs.append(output))
    model(X)
    assert freeze_(model, "by-name:contains=blocks.0", example_input=X).verify(X).passed
    assert len(outputs) == 1


class BatchStatistics(nn.Module):
    """Its mode goes by whether gradients are recorded; its statistics stay."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.mean = nn.Parameter(torch.ones(8)), torch.zeros(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - (x.mean(0) if torch.is_grad_enabled() else self.mean)) * self.scale


class RunsFrozenWithoutGradients(nn.Module):
    def __init__(self, without: bool) -> None:
        super().__init__()
        self.norm, self.head, self.without = BatchStatistics(), nn.Linear(8, 2), without

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.set_grad_enabled(not self.without):
            x = self.norm(x)
        return self.head(x)


@pytest.mark.parametrize("without", [False, True])
def test_a_mode_that_goes_by_gradients_is_that_of_the_training(without: bool) -> None:
    model = RunsFrozenWithoutGradients(without)
    model.norm.requires_grad_(False)
    found = failed(verify_model(model, X))
    assert found == ({} if without else {"same-in-train-and-eval": ("norm",)})


class MovingStatistics(BatchStatistics):
    """The same, and its statistics follow the batches, as in Dive into Deep Learning."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0).detach()
        return super().forward(x)


def test_a_mode_that_goes_by_gradients_is_named_where_the_statistics_move_too() -> None:
    blocks = [nn.Sequential(nn.Linear(8, 8), MovingStatistics()) for _ in range(2)]
    model = nn.Sequential(*blocks, nn.Linear(8, 2))
    model[:2].requires_grad_(False)
    found = verify_model(model, X)
    assert failed(found) == {
        "fixed-statistics": ("0.1.mean", "1.1.mean"),
        "same-in-train-and-eval": ("0.1", "1.1"),
    }
    check = next(c for c in found.checks if c.name == "same-in-train-and-eval")
    assert check.detail == (
        "2 of 2 frozen modules not the same in both modes; "
        "by whether gradients are recorded: '0.1', '1.1'"
    )
