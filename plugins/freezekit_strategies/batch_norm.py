"""`batch-norm`: freeze the batch norms, or train nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from freezekit import FreezePlan, PlanError, Strategy, hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freezekit import Backbone


@dataclass(frozen=True)
class BatchNorm(Strategy):
    """Freeze all batch norms (1d, 2d, 3d, Sync, fused with an activation), found by their type.

    Weights: scale and shift of every batch norm frozen; with `train=only` they alone are trained,
    with the head. Running statistics: fixed unless `statistics=live`. Randomness: untouched, but
    for `train=only`, where it is off in modules that are wholly frozen.
    Freezing batch norms makes training with small batches stable. It frees next to no memory:
    convolutions keep their inputs for their own weights' gradients.

    Source: detectors' FrozenBatchNorm; for `train=only`, Frankle et al., arXiv 2003.00152.

    Example:
        >>> from freezekit import load_backbone, plan
        >>> decided = plan(load_backbone("torchvision:resnet50", device="meta"), "batch-norm")
        >>> len(decided.fixed), len(decided.frozen)
        (53, 106)
    """

    name: ClassVar[str] = "batch-norm"
    summary: ClassVar[str] = "freeze every batch norm, or train only them"

    train: Annotated[
        Literal["rest", "only"], "rest: freeze the batch norms; only: train only them and the head"
    ] = "rest"
    statistics: Annotated[
        Literal["fixed", "live"], "fixed: keep running statistics; live: go on updating them"
    ] = "fixed"

    def plan(self, backbone: Backbone) -> FreezePlan:
        """Freeze the batch norms, or all else.

        Raises:
            PlanError: The model has no batch norm.
        """
        norms = [norm for norm in backbone.norms if norm.kind == "batch"]
        if not norms:
            others = sorted({norm.type_name for norm in backbone.norms})
            raise PlanError(
                f"batch-norm: {type(backbone.model).__name__} has no batch norm"
                + (f"; its norms are {', '.join(others)}" if others else "")
            )
        parameters = {name for norm in norms for name in norm.parameters}
        names = {norm.name for norm in norms}
        note = f"batch-norm: {len(norms)} batch norms found by type"
        if self.train == "rest":
            return FreezePlan(parameters, names if self.statistics == "fixed" else (), notes=[note])
        frozen = backbone.parameters.keys() - parameters - set(backbone.head.parameters)
        whole = backbone.wholly_frozen(frozen)
        fixed = whole | names if self.statistics == "fixed" else whole - names
        return FreezePlan(frozen, fixed, notes=[note])


@hookimpl
def freezekit_strategies() -> Iterable[type[Strategy]]:
    """Offer the strategy of this module."""
    return [BatchNorm]
