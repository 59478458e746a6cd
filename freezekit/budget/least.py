"""What a training step takes whatever is computed again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.errors import InsufficientMemoryError
from freezekit.results.sizes import size_text

if TYPE_CHECKING:
    from collections.abc import Container

    from torch import nn


def check_budget(model: nn.Module, frozen: Container[str], budget_bytes: int) -> None:
    """Refuse a budget that parameters, buffers and gradients exceed alone.

    Args:
        model: The model.
        frozen: Names of the parameters that will have no gradient.
        budget_bytes: What a training step may take.

    Raises:
        InsufficientMemoryError: They take more.

    Example:
        >>> from torch import nn
        >>> check_budget(nn.Linear(1024, 1), ("weight",), 8 * 2**10)
        >>> check_budget(nn.Linear(1024, 1), (), 8 * 2**10)
        Traceback (most recent call last):
        ...
        freezekit.errors.InsufficientMemoryError: the budget is 8 KiB, and parameters, ...
    """
    kept = {id(tensor): tensor.nbytes for tensor in (*model.parameters(), *model.buffers())}
    trained = {id(p): p.nbytes for name, p in model.named_parameters() if name not in frozen}
    least = sum(kept.values()) + sum(trained.values())
    if least > budget_bytes:
        raise InsufficientMemoryError(
            f"the budget is {size_text(budget_bytes)}, and parameters, buffers and gradients of "
            f"this {type(model).__name__} alone take {size_text(least)}; give a larger budget, or "
            "freeze more"
        )
