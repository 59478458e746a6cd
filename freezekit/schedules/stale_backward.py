"""A backward whose forward was before a change: its gradients would be reduced by nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.graph import get_gradient_edge

from freezekit.errors import FreezeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn
    from torch.nn.parallel import DistributedDataParallel


def refuse_stale_backward(ddp: DistributedDataParallel, trained: Sequence[Tensor]) -> None:
    """Let a backward raise until the wrapper has run a forward with gradients.

    A new reducer ignores gradients before that forward: each rank would step with its own.

    Args:
        ddp: A wrapper whose reducer was just rebuilt.
        trained: The parameters that it reduces.
    """

    def refuse(_: object) -> None:
        raise FreezeError(
            "what is trained was changed between this backward and its forward, so that its "
            "gradients would not be reduced over ranks; change between two steps. To go on, call "
            "zero_grad() and run the forward again"
        )

    def end(_: nn.Module, __: Any) -> None:  # Any: arguments of a forward
        if torch.is_grad_enabled():
            for handle in handles:
                handle.remove()

    # On the nodes of autograd rather than on the parameters, where hooks would be saved with them.
    handles = [get_gradient_edge(p).node.register_prehook(refuse) for p in trained]
    handles.append(ddp.register_forward_pre_hook(end))
