"""Statistics of held modules that stay through a reset, by a method or by an assignment.

A saved model contains `StatisticsKept`. Its name and the name of this module must stay.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.modules.module import register_module_buffer_registration_hook

from freezekit.errors import FreezekitWarning

if TYPE_CHECKING:
    from torch import nn

RESETS = "stats", "statistics", "parameters"
"""Ends of the names of the methods that reset statistics, such as `reset_running_stats`."""


class StatisticsKept:
    """Replaces a method that resets a module, and keeps that module's buffers.

    `torch.optim.swa_utils.update_bn` resets all statistics to estimate them anew in train mode. A
    module that is held in eval mode never estimates any. Parameters are reset as usual.

    It is an attribute of the instance, so that deepcopy and pickle copy it with the module.

    Attributes:
        module: The module that is held.
        name: The name of the method.
        before: An attribute of that name that the instance had already, or None.
    """

    def __init__(self, module: nn.Module, name: str) -> None:
        self.module = module
        self.name = name
        self.before: Any = module.__dict__.get(name)  # Any: whatever somebody put there

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # Any: whatever the method takes
        """Call the method, and restore the buffers of the module."""
        module = self.module
        kept = {n: (b, b.detach().clone()) for n, b in module._buffers.items() if b is not None}
        try:
            if self.before is not None:
                return self.before(*args, **kwargs)
            return getattr(type(module), self.name)(module, *args, **kwargs)
        finally:
            with torch.no_grad():
                for name, (buffer, values) in kept.items():
                    buffer.copy_(values)
                    module._buffers[name] = buffer


def keep_statistics(module: nn.Module) -> None:
    """Put the replacements on a module that has buffers of its own.

    Example:
        >>> norm = torch.nn.BatchNorm2d(1)
        >>> _ = norm.running_mean.fill_(3)
        >>> keep_statistics(norm)
        >>> norm.reset_running_stats()
        >>> norm.running_mean
        tensor([3.])
        >>> release_statistics(norm)
        >>> norm.reset_running_stats()
        >>> norm.running_mean
        tensor([0.])
    """
    if not module._buffers:
        return
    for name in dir(type(module)):
        if name.startswith("reset") and name.endswith(RESETS):
            module.__dict__[name] = StatisticsKept(module, name)


def release_statistics(module: nn.Module) -> None:
    """Remove the replacements."""
    for name, kept in _replacements(module).items():
        del module.__dict__[name]
        if kept.before is not None:
            module.__dict__[name] = kept.before


def _replacements(module: nn.Module) -> dict[str, StatisticsKept]:
    return {n: v for n, v in vars(module).items() if isinstance(v, StatisticsKept)}


def _keep_assigned(module: nn.Module, name: str, value: Tensor | None) -> Tensor | None:
    """Keep the statistics of a held module where fresh ones are assigned in their place.

    Lightning's `StochasticWeightAveraging` resets statistics by assignment. Only the values of a
    reset are refused, so that a checkpoint can still be assigned. PyTorch calls this for each
    buffer that is registered or assigned, and does not call it for `model.to(device)`.
    """
    fresh = _FRESH.get(name)
    if fresh is None or not _replacements(module):
        return None
    present = module._buffers.get(name)
    if present is None or value is None or present.is_meta or value.is_meta:
        return None
    if present.shape != value.shape or not _holds(value, fresh) or _holds(present, fresh):
        return None
    warnings.warn(
        f"the {name} of a {type(module).__name__} that freeze_() holds in eval mode was assigned "
        f"{fresh:g} in all elements. A held module never estimates statistics anew, so they "
        "were kept; to reset them, call undo() on the handle first",
        FreezekitWarning,
        stacklevel=4,
    )
    return present.to(value)


_FRESH = {"running_mean": 0.0, "running_var": 1.0}
"""What a reset leaves in statistics."""


def _holds(tensor: Tensor, fresh: float) -> bool:
    return bool((tensor == fresh).all())


register_module_buffer_registration_hook(_keep_assigned)  # type: ignore[arg-type]  # says None only
