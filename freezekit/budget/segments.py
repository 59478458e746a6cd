"""Modules whose activations are computed again in the backward pass."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten
from torch.utils.checkpoint import checkpoint

from freezekit.lean.attachment import ForwardReplacement, must_not_act

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)
FOR_ONE_RUN = "_freezekit_for_one_run"
"""An attribute of a module's forward that is there for one run of the model, and no longer in the
backward pass: what it keeps of that run, to be cleared before another one."""

_PLAIN = Tensor, bool, int, float, complex, str, type(None), torch.dtype, torch.device


class SegmentForward(ForwardReplacement):
    """Runs a module's forward without saving, and once more in the backward pass.

    The kernels, random numbers and autocast of the second run are those of the first, so that
    gradients have the same bits (`torch.utils.checkpoint`). Buffers stay as the first run left
    them.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Do what the module's forward does; only what autograd saves differs."""
        # A compiler decides for itself what it computes again.
        if not self.is_active or must_not_act() or has_hooks_on_saved_tensors():
            return self._forward(*args, **kwargs)
        if not is_like_the_first(self.module, args, kwargs):
            return self._forward(*args, **kwargs)
        # Lists are taken apart, as the caller may change them after this call. Tensors are
        # arguments of their own: then torch refuses those that were changed in place meanwhile.
        leaves, structure = tree_flatten((args, kwargs))

        def run(*given: Any) -> Any:
            args, kwargs = tree_unflatten(list(given), structure)
            return self._forward(*args, **kwargs)

        return checkpoint(
            run, *leaves, use_reentrant=False, context_fn=partial(_contexts, self.module)
        )


def has_hooks_on_saved_tensors() -> bool:
    """Tell whether somebody decides what is saved, as `save_on_cpu` and checkpointing do."""
    autograd: Any = torch._C._autograd  # its stubs lack this
    return autograd._top_saved_tensors_default_hooks(False) is not None


def is_like_the_first(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Tell whether a second run of a module is like the first, as far as a call shows it.

    It is not where somebody's hooks inside the module would run twice, where a part of the module
    is skipped in the first run alone, or where an argument is an object that may change.
    """
    for inner in module.modules():
        if inner is module:
            continue
        if any(getattr(inner, kind) for kind in _HOOKS):
            return False
        if FOR_ONE_RUN in getattr(inner.__dict__.get("forward"), "__dict__", ()):
            return False
    return all(isinstance(leaf, _PLAIN) for leaf in tree_leaves((args, kwargs)))


def _contexts(
    module: nn.Module,
) -> tuple[AbstractContextManager[object], AbstractContextManager[object]]:
    return nullcontext(), _AsBefore(module)


class _AsBefore:
    """Runs a module in the modes of its first run, on copies of its buffers.

    Modes may have changed since: a loop may call `eval()` between forward and backward. Copies of
    the buffers take what the second run writes, such as the running statistics of batch norms. What
    these write does not depend on how often they run, and nothing that they return depends on what
    they write.
    """

    def __init__(self, module: nn.Module) -> None:
        self._modes = [(inner, inner.training) for inner in module.modules()]
        self._versions = [(weight, weight._version) for weight in module.parameters()]
        self._restored: list[tuple[nn.Module, bool, dict[str, Tensor | None]]] = []

    def __enter__(self) -> None:
        for weight, version in self._versions:
            if weight._version != version:
                raise RuntimeError(
                    "a parameter needed for gradient computation has been modified by an inplace "
                    f"operation between forward and backward: {list(weight.shape)} is at version "
                    f"{weight._version}; expected version {version} instead"
                )
        copies: dict[Tensor, Tensor] = {}
        for inner, training in self._modes:
            self._restored.append((inner, inner.training, dict(inner._buffers)))
            inner.training = training
            for name, buffer in inner._buffers.items():
                if buffer is not None:
                    if buffer not in copies:
                        copies[buffer] = buffer.detach().clone()
                    inner._buffers[name] = copies[buffer]

    def __exit__(self, *_: object) -> None:
        while self._restored:
            inner, training, buffers = self._restored.pop()
            inner.training = training
            inner._buffers.update(buffers)
