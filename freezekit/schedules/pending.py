"""Gradients of an accumulation that wait for the next step of the optimizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer


class PendingGradients:
    """Tells whether a backward pass came after the last step of an optimizer.

    Gradients of the last step stay until they are set to None or 0. So a gradient counts where it
    is another tensor than at that step, or was written since. One parameter tells: each backward
    gives gradients to the parameters of the head, which stand last.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._seen: tuple[Tensor | None, int] = None, 0
        self._found: nn.Parameter | None = None  # to look it up in each step takes longer

    def mark(self) -> None:
        """Remember the gradient of now, which the optimizer has just used."""
        gradient = self._last().grad
        self._seen = gradient, -1 if gradient is None else gradient._version

    def any(self) -> bool:
        """Tell whether there are gradients that no step has used."""
        gradient = self._last().grad
        if gradient is None or (gradient is self._seen[0] and gradient._version == self._seen[1]):
            return False
        whole = gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient
        return bool(whole.any())

    def _last(self) -> nn.Parameter:
        if self._found is not None and self._found.requires_grad:
            return self._found
        trained = (
            parameter
            for group in reversed(self._optimizer.param_groups)
            for parameter in reversed(group["params"])
            if parameter.requires_grad
        )
        found: nn.Parameter = next(trained, self._optimizer.param_groups[-1]["params"][-1])
        self._found = found
        return found
