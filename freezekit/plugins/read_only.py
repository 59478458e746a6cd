"""Hold plugins to looking: what they are shown is put back, and the one that changed it is told."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from freezekit.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn


@contextmanager
def only_looking(model: nn.Module, who: str) -> Iterator[None]:
    """Let a plugin look at a model; flags and modes that it changes are put back.

    Args:
        model: What it looks at.
        who: The plugin and its function in words, as the subject of the error.

    Raises:
        PluginError: It changed a flag or a mode, and did not fail otherwise.
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
            f"{who} changed the model, which it may only look at; flags and modes were put back"
        )
