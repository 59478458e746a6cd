"""Differences between train and eval mode that arise between frozen modules."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch

from freezekit.model.modes import in_mode
from freezekit.model.nested import tensors
from freezekit.verify.dependence import Dependence
from freezekit.verify.isolation import bits

if TYPE_CHECKING:
    from torch import nn

    from freezekit.verify.claims import Claims
    from freezekit.verify.training import TrainingTask


def find_drift(model: nn.Module, task: TrainingTask, claims: Claims) -> tuple[str, str] | None:
    """Return two frozen modules between which train mode and eval mode differ, None if none do.

    Functional dropout and norms without parameters differ in this way. No frozen module shows the
    difference, yet the output of the frozen part is not the same in both modes. The function
    compares the inputs of frozen modules that depend on nothing that is trained. Where the first of
    them differs already, the model changes its own input, as augmentation does; then nothing can be
    concluded.

    Args:
        model: A copy that is not used afterwards.
        task: What the forward runs on.
        claims: What is held in eval mode.

    Returns:
        The last module whose input is the same, and the first whose input is not.
    """
    if _first_drift(model, task, claims, nullcontext()) is None:
        return None
    # What is trained may reach frozen modules where no gradient is recorded, too.
    parameters = dict(model.named_parameters())
    roots = [parameters[name] for name in claims.trained]
    return _first_drift(model, task, claims, Dependence(roots))


def _first_drift(
    model: nn.Module, task: TrainingTask, claims: Claims, watch: Dependence | nullcontext[None]
) -> tuple[str, str] | None:
    in_train, in_eval = (
        _inputs(in_mode(model, training=mode), task, claims, watch) for mode in (True, False)
    )
    last = None
    for call, digest in in_train.items():
        if call in in_eval and in_eval[call] != digest:
            return (last, call[0]) if last is not None else None
        last = call[0]
    return None


def _inputs(
    model: nn.Module, task: TrainingTask, claims: Claims, watch: Dependence | nullcontext[None]
) -> dict[tuple[str, int], str]:
    """Return a digest of each frozen module's input, by the module's name and the call's number."""
    digests: dict[tuple[str, int], str] = {}
    calls: dict[str, int] = {}
    handles = []
    for name, module in model.named_modules():
        if name not in claims.eval_modules:
            continue

        def enter(_module: nn.Module, args: Any, kwargs: Any, name: str = name) -> None:
            number = calls[name] = calls.get(name, 0) + 1
            inputs = [t for t in tensors((args, kwargs)) if t.layout == torch.strided]
            depends = isinstance(watch, Dependence) and watch.reaches(inputs)
            if inputs and not depends and not any(tensor.requires_grad for tensor in inputs):
                digest = hashlib.blake2b()
                for tensor in inputs:
                    digest.update(bits(tensor).cpu().numpy().data)
                digests[name, number] = digest.hexdigest()

        handles.append(module.register_forward_pre_hook(enter, prepend=True, with_kwargs=True))
    try:
        with torch.enable_grad(), watch:
            task.forward(model)
    finally:
        for handle in handles:
            handle.remove()
    return digests
