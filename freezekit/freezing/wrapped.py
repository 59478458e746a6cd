"""Objects that are no plain model: which of them are refused, and what to do instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from freezekit.errors import FreezeError, ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

WRAPPERS = "DistributedDataParallel", "FullyShardedDataParallel"
"""By name, as importing the second takes long."""


def check_model(model: object) -> None:
    """Refuse what is no module, and what fixed at its construction which parameters are trained.

    Raises:
        ModelError: It is no module.
        FreezeError: It is, or contains, a wrapper for several processes or a traced module.

    Example:
        >>> check_model("resnet18")
        Traceback (most recent call last):
            ...
        freezekit.errors.ModelError: the model is str 'resnet18', expected a torch.nn.Module; ...
    """
    if not isinstance(model, nn.Module):
        advice = "build one, for example with load_backbone('torchvision:resnet18')"
        if isinstance(model, type) and issubclass(model, nn.Module):
            advice = f"give an object of this class, such as {model.__name__}(...)"
        elif callable(model):
            advice = "call it, and give the model that it returns"
        raise ModelError(
            f"the model is {type(model).__name__} {model!r:.80}, expected a torch.nn.Module; "
            f"{advice}"
        )
    for name, module in model.named_modules():
        kind = next((k for k in _class_names(module) if k in WRAPPERS), None)
        if kind is not None:
            where = f"{name!r} in this {type(model).__name__}" if name else "the model"
            inner = type(getattr(module, "module", module)).__name__
            raise FreezeError(
                f"{where} is a {kind} around a {inner}. It fixes at its construction which "
                "parameters it reduces: freeze the module before wrapping it, as in "
                f"frozen = freeze_(module, spec), then {kind}(module)"
            )
        if "TracedModule" in _class_names(module):  # torch does not export it to type checkers
            raise FreezeError(
                f"{name or type(model).__name__!r} was made by torch.jit.trace, which fixes the "
                "modes of all layers: freeze the model from which it was made, then trace it"
            )


def staging_advice(model: nn.Module) -> str | None:
    """Return why no stages are found in a model that was sharded, or scripted even in part.

    Example:
        >>> staging_advice(nn.Linear(1, 1)) is None
        True
    """
    name = type(model).__name__
    if (part := scripted_part(model)) is not None:
        advice = "scripted = torch.jit.script(model), then freeze_(scripted, decided)"
        if part:
            advice = "script the part, then freeze_(model, decided)"
        return (
            f"{f'{part!r} in this {name}' if part else name} is a ScriptModule of torch.jit, whose "
            f"layers cannot be observed. Plans are made before: decided = plan(model, spec), then "
            f"{advice}"
        )
    if any("DTensor" in _class_names(parameter) for parameter in model.parameters()):
        return (
            f"the parameters of {name} are sharded over processes (fully_shard), so that it cannot "
            "be observed. Plans are made before: decided = plan(model, spec), then "
            "fully_shard(model), then freeze_(model, decided). To follow a schedule, find the "
            "stages before: frozen = freeze_(model, spec), frozen.backbone.stages, then "
            "fully_shard(model)"
        )
    return None


def scripted_part(model: nn.Module) -> str | None:
    """Return the name of the first module with parameters that torch.jit has scripted or traced.

    Example:
        >>> scripted_part(nn.Linear(1, 1)) is None
        True
    """
    return next(
        (
            name
            for name, module in model.named_modules()
            if isinstance(module, torch.jit.ScriptModule)
            and next(module.parameters(), None) is not None
        ),
        None,
    )


def refuse_script(kind: str) -> None:
    """Refuse to script a module that is held; `torch.jit.script` calls it through a held module.

    A saved model names this function: its name and that of its module must stay.

    Raises:
        FreezeError: Always.
    """
    raise FreezeError(
        f"torch.jit.script of a {kind} that freeze_() holds in eval mode would lose the hold, and "
        "the next train() would change its statistics. Script first, and freeze what is scripted: "
        "decided = plan(model, spec), then scripted = torch.jit.script(model), then "
        "freeze_(scripted, decided). To script it for inference, call undo() on the handle first"
    )


def _class_names(thing: object) -> Iterator[str]:
    return (cls.__name__ for cls in type(thing).__mro__)
