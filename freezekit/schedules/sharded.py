"""A live model under `fully_shard` (FSDP2) that is trained in other parts from now on.

It reads `requires_grad` at each step, so that a change is right without a wrapper to rebuild: only
the gradients of what is trained are reduced. In two states, a change would fail silently.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freezekit.errors import FreezeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn


def check_sharded(model: nn.Module) -> None:
    """Refuse a sharded model with gradients that wait to be reduced; accept all others.

    They are not in `.grad`, so that freezing a parameter could not drop them. The next backward
    would give them to the frozen parameter, and the optimizer would move it.

    Raises:
        FreezeError: Gradients were accumulated under `set_requires_gradient_sync(False)`.
    """
    for module in _sharded_modules(model):
        for group in _groups(module):
            waiting = group._partial_reduce_output is not None or any(
                parameter.unsharded_accumulated_grad is not None
                or getattr(getattr(parameter, "_unsharded_param", None), "grad", None) is not None
                for parameter in group.fsdp_params
            )
            if waiting:
                raise FreezeError(
                    f"gradients of this sharded {type(model).__name__} wait to be reduced, as "
                    "after a backward under set_requires_gradient_sync(False); change after the "
                    "step of the optimizer"
                )


def reshard_(model: nn.Module) -> None:
    """Let the parameters of a sharded model be its shards again, whose flags and state count.

    After a forward without a backward, such as an evaluation, the outermost module still has its
    whole parameters. Flags that are set on these are lost with them. Other models stay as they are.
    """
    for module in _sharded_modules(model):
        module.reshard()


def _sharded_modules(model: nn.Module) -> Iterator[Any]:  # Any: FSDPModule takes long to import
    for module in model.modules():
        if any(cls.__name__ == "FSDPModule" for cls in type(module).__mro__):
            yield module


def _groups(module: Any) -> list[Any]:  # Any: as above; older versions of torch have one at most
    state = module._get_fsdp_state()
    if hasattr(state, "_fsdp_param_groups"):
        return list(state._fsdp_param_groups)
    return [state._fsdp_param_group] if state._fsdp_param_group else []
