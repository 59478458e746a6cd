"""Guard a model while a plugin reads it: restore its flags and modes, and name who changed them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from freezekit.errors import FreezekitError, PluginError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

T = TypeVar("T")


def answer_of(call: Callable[[], T], model: nn.Module, whose: str, method: str) -> T:
    """Return the answer of a plugin that reads a model.

    Args:
        call: Asks the plugin.
        model: The model that the plugin reads; its flags and modes are guarded.
        whose: The strategy or schedule, and its plugin, in words.
        method: The method that is called, such as "plan".

    Raises:
        PluginError: The plugin failed, or changed the model.
        FreezekitError: The plugin refused the model on purpose.
    """
    try:
        with read_only(model, f"{whose} in {method}()"):
            return call()
    except (FreezekitError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise plugin_failure(whose, error) from error


def plugin_failure(whose: str, error: BaseException) -> PluginError:
    """Return the error that names the plugin at fault."""
    return PluginError(f"{whose} failed: {type(error).__name__}: {error}")


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
