"""What a second `freeze_` thaws, and who does not know of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch import distributed

from freezekit.errors import some
from freezekit.freezing.eval_hold import RECORD

if TYPE_CHECKING:
    from torch import nn

    from freezekit.freezing.plan import FreezePlan


def thaw_warnings(
    model: nn.Module, decided: FreezePlan, call: Literal["freeze_()", "change_()"] = "freeze_()"
) -> list[str]:
    """Return warnings for a frozen model of which a new plan thaws a part, before it is applied.

    Example:
        >>> from torch import nn
        >>> from freezekit import freeze_
        >>> net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1))
        >>> _ = freeze_(net, "by-name:glob=0.*")
        >>> thaw_warnings(net, freeze_(net, "by-name:glob=0.*").plan)
        []
    """
    if RECORD not in model.__dict__:
        return []
    thawed = [
        name
        for name, p in model.named_parameters()
        if not p.requires_grad
        and name not in decided.frozen
        and (p.is_floating_point() or p.is_complex())
    ]
    if not thawed:
        return []
    text = (
        f"this {call} thaws {len(thawed)} parameter(s) that were frozen so far: {some(thawed)}. "
        "An optimizer made before for what was trainable does not hold them, so that they would "
        "never move: make a new one of param_groups() of the handle that freeze_() returns, or "
        "call change_() of the handle with an optimizer of param_groups(..., all_phases=True)"
    )
    if call == "change_()":
        return [text]
    ranks = distributed.get_world_size() if _in_process_group() else 1
    if ranks > 1:
        text += (
            f". The process group has {ranks} ranks: a DistributedDataParallel made before does "
            "not reduce the gradients of these parameters, so that the ranks would drift apart; "
            "wrap the model anew after freeze_(), or call change_() of the handle with ddp="
        )
    return [text]


def _in_process_group() -> bool:
    return distributed.is_available() and distributed.is_initialized()
