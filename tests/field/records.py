"""What is expected of a model from the field, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from freezekit.model.copies import eagerly

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

LACKING = {
    "norm": ("has no norm with weights to train", "norm-only"),
    "statistics": ("has no batch norm or other norm that keeps running statistics", "batch-norm"),
    "bias": ("has no bias to train", "bias-only"),
    "attention": ("has no attention layer", "attention-only", "patch-embed"),
    "head": ("needs a head to train", "head-only"),
    "body": ("has no body stages|has 0 body stages", "*:n=1", "surgical:stages=last"),
    "stem": ("there is no patch embedding|has no layer to freeze", "patch-embed"),
}
"""What a model may lack: the words of the refusal, and the strategies that must refuse."""


@dataclass(frozen=True, eq=False)
class Structure:
    """A small model as people write it, and what freezekit must find in it.

    Attributes:
        build: Makes the model. Its docstring names where people write such models.
        inputs: Makes what the forward takes: a tensor, a tuple of arguments, or a dict of keyword
            arguments.
        stages: The least number of stages, stem and head included.
        head: Beginnings of the names of the parameters that a new task replaces.
        lacks: Keys of `LACKING`, separated by spaces.
        refuses: More specs that must be refused, and the words of the reason.
        warns: Regular expressions for warnings. Each is seen for at least one spec.
        open: Beginnings of names of parameters that may be in the head or not.
        reused: Beginnings of names of parameters and modules of which the last use is allowed to
            come after their stage, such as a tied embedding.
        moves: Beginnings of the names of parameters, buffers and plain tensors that the forward
            itself changes.
        loss: From the output to a scalar, where the usual loss does not fit.
    """

    build: Callable[[], nn.Module]
    inputs: Callable[[], Any]  # Any: whatever the model takes
    stages: int
    head: tuple[str, ...]
    lacks: str = ""
    refuses: Mapping[str, str] = field(default_factory=dict)
    warns: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    reused: tuple[str, ...] = ()
    moves: tuple[str, ...] = ()
    loss: Callable[[Any], Tensor] | None = None  # Any: whatever the model returns

    def __str__(self) -> str:
        return self.build.__name__

    def make(self) -> nn.Module:
        """Return the model, always with the same weights."""
        torch.manual_seed(0)
        return self.build()

    def given(self) -> Any:  # Any: whatever the model takes
        """Return the input, always the same."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            return self.inputs()

    def run(self, model: nn.Module) -> Any:  # Any: whatever the model returns
        """Return the output of a model of this structure."""
        args, kwargs = arguments(self.given())
        with eagerly(model):  # compiling takes long
            return model(*args, **kwargs)

    def refusal(self, spec: str) -> str:
        """Return the words with which a strategy must refuse, "" if it must accept."""
        if spec in self.refuses:
            return self.refuses[spec]
        for what in self.lacks.split():
            words, *names = LACKING[what]
            if any(_is_about(spec, name) for name in names):
                return words
        return ""

    def is_head(self, parameter: str) -> bool:
        """Tell whether a parameter is one of the head, and must be trained."""
        return parameter.startswith(self.head) and not self.is_open(parameter)

    def is_open(self, parameter: str) -> bool:
        """Tell whether a parameter may be in the head or not."""
        return bool(self.open) and parameter.startswith(self.open)

    def moves_itself(self, name: str) -> bool:
        """Tell whether the forward itself changes a parameter, buffer or plain tensor."""
        return bool(self.moves) and name.startswith(self.moves)


def _is_about(spec: str, name: str) -> bool:
    return spec.endswith(name[1:]) if name.startswith("*") else spec.startswith(name)


def arguments(given: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:  # Any: what the model takes
    """Return the input as positional and keyword arguments."""
    if isinstance(given, dict):
        return (), given
    return given if isinstance(given, tuple) else (given,), {}


def images(channels: int = 3, size: int = 32) -> Callable[[], Tensor]:
    """Return a function that makes two images."""
    return lambda: torch.randn(2, channels, size, size)


def noise(*shape: int, dtype: torch.dtype = torch.float32) -> Callable[[], Tensor]:
    """Return a function that makes a tensor of this shape."""
    return lambda: torch.randn(*shape).to(dtype)


def tokens(*shape: int, below: int = 20) -> Callable[[], Tensor]:
    """Return a function that makes whole numbers."""
    return lambda: torch.randint(below, shape)


def several(*makers: Callable[[], Any]) -> Callable[[], tuple[Any, ...]]:
    """Return a function that makes several arguments."""
    return lambda: tuple(make() for make in makers)
