"""Guard a model while a plugin reads it: restore its flags and modes, and name who changed them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from freezekit.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn


@contextmanager
def read_only(model: nn.Module, who: str) -> Iterator[None]:
    """Let a plugin read a model, and restore each `requires_grad` and mode that it changes.

    Args:
        model: The model that the plugin reads.
        who: The plugin and its function in words: the subject of the error message.

    Raises:
        PluginError: The plugin changed a flag or a mode. An exception of the plugin itself goes
            through instead.
    """
    flags = [(p, p.requires_grad) for p in model.parameters()]
    modes = [(m, m.training) for m in model.modules()]
    changed = False
    try:
        yield
    finally:
        for parameter, trained in flags:
            if parameter.requires_grad != trained:
                parameter.requires_grad_(trained)
                changed = True
        for module, mode in modes:
            if module.training != mode:
                module.training = mode
                changed = True
    if changed:
        raise PluginError(
            f"{who} changed the model, which it may only read; freezekit restored the flags and "
            "modes"
        )
