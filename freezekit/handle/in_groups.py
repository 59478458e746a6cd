"""What an optimizer holds of a frozen model, and what it lacks: it may have been made too early."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ref

from freezekit.errors import FreezeError, some
from freezekit.freezing.apply import can_train

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn
    from torch.optim import Optimizer

    from freezekit.backbone.view import Backbone
    from freezekit.freezing.plan import FreezePlan


class HandedOut:
    """The parameters of the groups that `param_groups` returned last, without keeping them alive.

    An optimizer made of these groups knows nothing of parameters that come later.

    Example:
        >>> from torch import nn
        >>> net = nn.Linear(2, 2)
        >>> handed = HandedOut([{"params": list(net.parameters())}])
        >>> net.bias = nn.Parameter(net.bias.detach().clone())
        >>> handed.lack(net)
        ['bias']
    """

    def __init__(self, groups: Iterable[dict[str, Any]]) -> None:  # Any: the type of torch's groups
        self._parameters = [ref(p) for group in groups for p in group["params"]]

    def lack(self, model: nn.Module) -> list[str]:
        """Return the names of trained parameters that came later."""
        held = {id(p) for each in self._parameters if (p := each()) is not None}
        return [name for name, p in _trained(model) if id(p) not in held]


def warning_of_groups(lacking: list[str]) -> str:
    """Return a sentence about trained parameters that `param_groups` did not return."""
    return (
        f"{len(lacking)} trained parameter(s) came after param_groups() was called: "
        f"{some(lacking)}. An optimizer made of these groups never moves them: make it anew, of "
        "param_groups()"
    )


def warnings_of_optimizer(
    backbone: Backbone, plan: FreezePlan, optimizer: Optimizer
) -> tuple[str, ...]:
    """Return what is wrong with the optimizer of a frozen model, in sentences; mostly nothing.

    Args:
        backbone: The view of the model as it is now.
        plan: What is true of the model now.
        optimizer: It may be of another model.

    Raises:
        FreezeError: It is no optimizer.

    Example:
        >>> import torch
        >>> from freezekit import Backbone, FreezePlan
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
        >>> early = torch.optim.SGD(net.parameters(), lr=0.1)
        >>> net[1] = nn.Linear(1, 2)
        >>> for text in warnings_of_optimizer(Backbone(net), FreezePlan(frozenset()), early):
        ...     print(text)
        2 trained parameter(s) are in no group of the SGD: '1.bias', '1.weight'. They never ...
        2 parameter(s) of the SGD are not in the model: it was made before the model changed, ...
    """
    from freezekit.verify.learning_rates import ignored_multipliers  # as in Frozen.verify

    model, kind = backbone.model, type(optimizer).__name__
    if not isinstance(getattr(optimizer, "param_groups", None), list):
        raise FreezeError(
            f"report() was given a {kind}, expected the optimizer that trains the model"
        )
    held = rates(optimizer)
    lacking = sorted(name for name, p in _trained(model) if id(p) not in held)
    foreign = held.keys() - {id(p) for p in model.parameters()}
    found = []
    if lacking:
        found.append(
            f"{len(lacking)} trained parameter(s) are in no group of the {kind}: {some(lacking)}. "
            "They never move: make the optimizer anew, of param_groups()"
        )
    if foreign:
        found.append(
            f"{len(foreign)} parameter(s) of the {kind} are not in the model: it was made before "
            "the model changed, or for another one"
        )
    if ignored := ignored_multipliers(optimizer, dict(_trained(model)), plan.lr_scales):
        found.append(str(ignored))
    return tuple(found)


def rates(optimizer: Optimizer) -> dict[int, float]:
    """Return the learning rate of each parameter of an optimizer, by the id of the parameter."""
    return {id(p): float(group["lr"]) for group in optimizer.param_groups for p in group["params"]}


def _trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(n, p) for n, p in model.named_parameters() if p.requires_grad and can_train(p)]
