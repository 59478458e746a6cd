"""Training of a copy for a few real steps, and which parameters get gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from freezekit.errors import FreezeError, ModelError
from freezekit.model.nested import shapes_text
from freezekit.verify.isolation import clone_tensors, reraise_if_clear

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from freezekit.model.loss import LossFunction

LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.05
CLIP = 1.0
"""Largest norm of all gradients. Without clipping, a model with random weights and fixed statistics
diverges."""


@dataclass(frozen=True)
class TrainingTask:
    """What a copy is trained on.

    Attributes:
        args: Arguments of the model's forward.
        kwargs: Its keyword arguments.
        loss: A function from the model's output to a scalar.
    """

    args: tuple[Any, ...]  # Any: whatever the model takes
    kwargs: dict[str, Any]
    loss: LossFunction

    def value(self, model: Callable[..., Any]) -> Tensor:
        """Run the model, or what runs it compiled, and return the loss.

        Raises:
            ModelError: The model refuses the input, or the loss raises, is no scalar or has no
                gradient.
        """
        output = self.forward(model)
        try:
            loss = self.loss(output)
        except Exception as error:
            reraise_if_clear(error)
            raise ModelError(f"the loss raised {_first_line(error)}") from error
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            what = tuple(loss.shape) if isinstance(loss, Tensor) else repr(loss)
            raise ModelError(f"the loss returned {what}, expected a tensor with one number")
        if not loss.requires_grad:
            raise ModelError(
                f"the loss of {_name(model)} does not depend on any parameter that is "
                "trained, so that there is no gradient; give a loss that does, and note that "
                "outputs which the model detaches have none, and that reentrant checkpointing "
                "behind a frozen part loses all gradients"
            )
        return loss

    def backward(self, model: Callable[..., Any]) -> float:
        """Run the model forward and back, and return its loss.

        Raises:
            ModelError: As `value` does; or the backward pass failed.
        """
        loss = self.value(model)
        try:
            loss.backward()
        except Exception as error:
            reraise_if_clear(error)
            raise ModelError(
                f"the backward pass of {_name(model)} raised {_first_line(error)}"
            ) from error
        return float(loss.detach())

    def forward(self, model: Callable[..., Any]) -> Any:  # Any: whatever the model returns
        """Run the model.

        Raises:
            ModelError: It refuses the input.
        """
        args, kwargs = clone_tensors((self.args, self.kwargs))
        try:
            return model(*args, **kwargs)
        except Exception as error:
            reraise_if_clear(error)
            message = _first_line(error)
            raise ModelError(
                f"{_name(model)} does not take an input of shape "
                f"{shapes_text((self.args, self.kwargs))}: {message}{_advice(message)}"
            ) from error


@dataclass(frozen=True)
class TrainedCopy:
    """A copy after training.

    Attributes:
        model: The copy.
        optimizer: The optimizer that trained it.
        finite: For each parameter that got a gradient, whether its gradients were finite in all
            steps.
        losses: One per step.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    finite: Mapping[str, bool]
    losses: tuple[float, ...]

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The parameters of the copy, by name."""
        return dict(self.model.named_parameters())

    @property
    def diverged(self) -> int | None:
        """The first step, from 1, whose loss was not finite."""
        return next((i for i, loss in enumerate(self.losses, 1) if not math.isfinite(loss)), None)


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    task: TrainingTask,
    steps: int,
    trained: Iterable[str],
    clip: float | None = None,
    *,
    through: Callable[..., Any] | None = None,
) -> TrainedCopy:
    """Train a copy; `model.train()` is called before each step, as in most training loops.

    Gradients are set to zero, not to None. So momentum and weight decay move a parameter that was
    frozen late and still has a gradient, and the check of frozen weights finds it.

    Args:
        model: The copy.
        optimizer: Over its parameters.
        task: What it is trained on.
        steps: Number of steps.
        trained: Names of the parameters that should get gradients.
        clip: Largest norm of all gradients that the optimizer sees.
        through: What is called in place of the copy: a wrapper around it, or the copy compiled.

    Raises:
        ModelError: The model refuses the input, or there is no loss with a gradient.
        FreezeError: The optimizer failed.
    """
    finite: dict[str, bool] = {}
    losses = []
    parameters = dict(model.named_parameters())
    expected = [(name, parameters[name]) for name in trained]
    for _, parameter in expected:
        parameter.grad = None  # only gradients of this training count
    for step in range(1, steps + 1):
        model.train()
        optimizer.zero_grad(set_to_none=False)
        losses.append(task.backward(through or model))
        for name, parameter in expected:
            if parameter.grad is not None and finite.get(name, True):
                finite[name] = _is_finite(parameter.grad)
        if clip is not None:
            dense = [p for p in model.parameters() if p.grad is not None and not p.grad.is_sparse]
            torch.nn.utils.clip_grad_norm_(dense, clip)
        try:
            optimizer.step()
        except Exception as error:
            reraise_if_clear(error)
            raise FreezeError(
                f"optimizer {type(optimizer).__name__} failed in step {step}: "
                f"{_first_line(error)}; pass as optimizer= one that supports the gradients of this "
                "model"
            ) from error
    return TrainedCopy(model, optimizer, finite, tuple(losses))


def reached_when_thawed(model: nn.Module, task: TrainingTask, names: Iterable[str]) -> set[str]:
    """Return which parameters get a gradient when the whole model is trained.

    Args:
        model: A copy; it stays thawed.
        task: What it is trained on.
        names: Of the parameters to check.
    """
    for module in model.modules():
        module.training = True  # an eval hold acts on train() only
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.is_floating_point() or parameter.is_complex())
        parameter.grad = None
    task.backward(model)
    parameters = dict(model.named_parameters())
    return {name for name in names if parameters[name].grad is not None}


def _is_finite(gradient: Tensor) -> bool:
    values = gradient.coalesce().values() if gradient.is_sparse else gradient
    return bool(torch.isfinite(values).all())


def _name(run: Any) -> str:  # Any: a model, a wrapper, or what runs a model compiled
    is_parallel = isinstance(run, nn.parallel.DistributedDataParallel)
    inside = run.module if is_parallel else getattr(run, "__wrapped__", run)
    return type(inside).__name__


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]


def _advice(message: str) -> str:
    """Return what the user can try, given the message of the model's error."""
    if "more than 1 value per channel" in message:
        return "; try a larger batch"
    words = ("size", "height", "width", "shape", "divisible", "match")
    if any(word in message.lower() for word in words):
        return "; try another image size, or inputs of your own"
    return "; try inputs of your own, or give the model an attribute example_input"
