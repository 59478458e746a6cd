"""Whether what lies between frozen modules acts alike in train and in eval mode."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import torch

from freezekit.model.nested import tensors
from freezekit.verify.isolation import bits

if TYPE_CHECKING:
    from torch import nn

    from freezekit.verify.claims import Claims
    from freezekit.verify.training import Task


def differs_between(model: nn.Module, task: Task, claims: Claims) -> tuple[str, str] | None:
    """Return two frozen modules between which something acts otherwise in train mode.

    Such as functional dropout, or a norm without parameters: no module that is frozen shows it, and
    yet what leaves the frozen part is not the same. Looked at are inputs that depend on nothing
    that is trained; where the first of them differs already, the model changes its own input, as
    augmentation does, and nothing can be told.

    Args:
        model: A copy that nobody needs any more.
        task: What the forward is run on.
        claims: What is held in eval mode.

    Returns:
        The last module whose input is alike, and the first whose input is not.
    """
    live, still = (_inputs(model.train(mode), task, claims) for mode in (True, False))
    last = None
    for call, digest in live.items():
        if call in still and still[call] != digest:
            return (last, call[0]) if last is not None else None
        last = call[0]
    return None


def _inputs(model: nn.Module, task: Task, claims: Claims) -> dict[tuple[str, int], str]:
    """Return a digest of the input of each call of a frozen module, by its name and number."""
    seen: dict[tuple[str, int], str] = {}
    calls: dict[str, int] = {}
    handles = []
    for name, module in model.named_modules():
        if name not in claims.eval_modules:
            continue

        def enter(_module: nn.Module, args: Any, kwargs: Any, name: str = name) -> None:
            number = calls[name] = calls.get(name, 0) + 1
            given = [t for t in tensors((args, kwargs)) if t.layout == torch.strided]
            if given and not any(tensor.requires_grad for tensor in given):
                digest = hashlib.blake2b()
                for tensor in given:
                    digest.update(bits(tensor).cpu().numpy().data)
                seen[name, number] = digest.hexdigest()

        handles.append(module.register_forward_pre_hook(enter, prepend=True, with_kwargs=True))
    try:
        with torch.enable_grad():
            task.forward(model)
    finally:
        for handle in handles:
            handle.remove()
    return seen
