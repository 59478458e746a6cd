"""`full`: freeze nothing, the baseline of every comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from freezekit import FreezePlan, Strategy, hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freezekit import Backbone


@dataclass(frozen=True)
class Full(Strategy):
    """Train everything.

    Weights: all trained. Running statistics and randomness: live, as after `model.train()`.

    Example:
        >>> from freezekit import load_backbone, plan
        >>> plan(load_backbone("torchvision:resnet18", device="meta"), "full").frozen
        frozenset()
    """

    name: ClassVar[str] = "full"
    summary: ClassVar[str] = "train everything: the baseline"

    def plan(self, backbone: Backbone) -> FreezePlan:  # noqa: ARG002  # the interface
        """Freeze nothing."""
        return FreezePlan()


@hookimpl
def freezekit_strategies() -> Iterable[type[Strategy]]:
    """Return the strategy of this module."""
    return [Full]
