"""What a Lightning training must be like to be frozen by a callback, and what is refused."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, cast

from freezekit.errors import FreezeError
from freezekit.integrations.cached_loader import CacheOptions, check_options
from freezekit.integrations.common_checks import check_version

if TYPE_CHECKING:
    from torch import nn

TESTED = "2.4", "3"
"""Lightning from the first on, below the second."""
PACKAGES = "lightning", "pytorch_lightning"


def check_trainer(
    trainer: Any,  # Any: the Trainer of either package
    pl_module: Any,  # Any: the LightningModule of either package
    callback: object,
    *,
    follows: bool,
) -> None:
    """Refuse a training that this callback cannot drive.

    Raises:
        FreezeError: Another callback freezes too, or a schedule would be followed under manual
            optimization.

    Warns:
        FreezekitWarning: The version of Lightning was not tested.
    """
    for other in trainer.callbacks:
        names = [cls.__name__ for cls in type(other).__mro__]
        if other is not callback and "FreezeHooks" in names:
            raise FreezeError(
                "FreezeCallback was given twice: one model has one plan. Join specs with ' + ' in "
                "one callback"
            )
        if "BaseFinetuning" in names:
            raise FreezeError(
                f"{type(other).__name__} freezes and thaws too, and each would undo the work of "
                "the other; leave it out, and give FreezeCallback a schedule such as "
                "'head-only then full at 10ep'"
            )
    if follows and not pl_module.automatic_optimization:
        raise FreezeError(
            "a schedule needs to know the steps of the optimizer, and this "
            f"{type(pl_module).__name__} has automatic_optimization=False, where your own code "
            "makes them. Give the callback the first plan, and follow the schedule in your "
            "code: run = callback.frozen.follow(schedule, optimizer, ...), then run.step() after "
            "each step and run.epoch() after each epoch"
        )
    for cls in type(trainer).__mro__:  # a Trainer of one's own has another module
        package = cls.__module__.partition(".")[0]
        if package in PACKAGES:
            check_version(package, sys.modules[package].__version__, TESTED)
            return


def cache_options(given: object) -> CacheOptions | None:
    """Return the options of the cache that a user gave as `cache=`; None for no cache.

    Raises:
        FreezeError: It is neither a bool nor a dict.
        CacheError: It is no dict of options of `Frozen.cache`.

    Example:
        >>> cache_options(True), cache_options(None), cache_options({"views": 4})
        ({}, None, {'views': 4})
        >>> cache_options({"foldr": "features"})
        Traceback (most recent call last):
        freezekit.errors.CacheError: a cache has no option 'foldr', did you mean 'folder'?
    """
    if given is None or isinstance(given, bool):
        return CacheOptions() if given else None
    if not isinstance(given, dict):
        known = ", ".join(sorted(CacheOptions.__annotations__))
        raise FreezeError(
            f"cache is {given!r:.80}, expected True, or a dict with some of the options {known}"
        )
    options = cast("CacheOptions", given)
    check_options(options)
    return options


def model_in(pl_module: nn.Module, path: str | None) -> nn.Module:
    """Return the model inside a LightningModule that is to be frozen.

    Args:
        pl_module: The LightningModule.
        path: Where it is, such as "model"; "" stands for the LightningModule itself. None: the only
            child with parameters, or else the LightningModule itself.

    Raises:
        FreezeError: There is no such module, or nothing has parameters.

    Example:
        >>> from torch import nn
        >>> module = nn.ModuleDict({"net": nn.Linear(1, 1), "metric": nn.Identity()})
        >>> model_in(module, None)
        Linear(in_features=1, out_features=1, bias=True)
    """
    name = type(pl_module).__name__
    if path is not None:
        try:
            return pl_module.get_submodule(path)
        except AttributeError:
            raise FreezeError(
                f"module={path!r} was given, and this {name} has no such module; it has "
                f"{_children(pl_module)}"
            ) from None
    if next(pl_module.parameters(), None) is None:
        raise FreezeError(
            f"this {name} has no parameters yet: they must be there when fit() begins. Build the "
            "model in __init__, and not in setup() or configure_model()"
        )
    children = [child for _, child in _with_parameters(pl_module)]
    has_own = next(pl_module.parameters(recurse=False), None) is not None
    return children[0] if len(children) == 1 and not has_own else pl_module


def staging_advice(pl_module: nn.Module, model: nn.Module) -> str:
    """Return what to do where no stages were found in the model of a LightningModule."""
    if model is not pl_module:
        return ""
    return (
        f". The whole {type(pl_module).__name__} was looked at; it has {_children(pl_module)}. "
        "Name one as module=, or give example_input= or example_input_array, if its forward "
        "takes no images"
    )


def _with_parameters(pl_module: nn.Module) -> list[tuple[str, nn.Module]]:
    return [
        (name, child)
        for name, child in pl_module.named_children()
        if next(child.parameters(), None) is not None
    ]


def _children(pl_module: nn.Module) -> str:
    named = [f"{name!r} ({type(child).__name__})" for name, child in _with_parameters(pl_module)]
    return ", ".join(named) or "no module with parameters"
