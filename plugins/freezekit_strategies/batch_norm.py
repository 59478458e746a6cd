"""`batch-norm`: freeze the batch norms, or train only them and the head."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from freezekit import FreezePlan, PlanError, Strategy, hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freezekit import Backbone


@dataclass(frozen=True)
class BatchNorm(Strategy):
    """Freeze all batch norms (1d, 2d, 3d, Sync, fused with an activation), found by their type.

    These are the norms that keep running statistics. EvoNorm's batch variants and instance norms
    with `track_running_stats` are among them. Group, layer, RMS and filter-response norms,
    EvoNorm's sample variants, and batch norms without statistics are not. No module is replaced, so
    the keys of the state dict and fused activations stay.

    Weights: all parameters of these norms frozen. With `train=only`, only these norms and the head
    are trained. Running statistics: fixed unless `statistics=live`. Randomness: as in the model.
    With `train=only` it is off in modules that are wholly frozen, and between the layers of
    a frozen prefix.

    Frozen batch norms make training with small batches stable. They free almost no memory, because
    convolutions keep their inputs for the gradients of their own weights.

    Source: FrozenBatchNorm of detection models. For `train=only`: Frankle et al., arXiv 2003.00152.

    Example:
        >>> from freezekit import load_backbone, plan
        >>> decided = plan(load_backbone("torchvision:resnet50", device="meta"), "batch-norm")
        >>> len(decided.eval_modules), len(decided.frozen)
        (53, 106)
    """

    name: ClassVar[str] = "batch-norm"
    summary: ClassVar[str] = "freeze every batch norm, or train only them"

    train: Annotated[
        Literal["rest", "only"], "rest: freeze the batch norms; only: train only them and the head"
    ] = "rest"
    statistics: Annotated[
        Literal["fixed", "live"], "fixed: keep running statistics; live: update them"
    ] = "fixed"

    @property
    def trains_only(self) -> bool:
        """Whether it names what is trained, and freezes all the rest."""
        return self.train == "only"

    @property
    def trains_head(self) -> bool:
        """Whether it means to train the head."""
        return self.train == "only"

    def plan(self, backbone: Backbone) -> FreezePlan:
        """Freeze the batch norms, or all parameters except theirs and the head's.

        Raises:
            PlanError: No norm of the model keeps running statistics.
        """
        norms = [norm for norm in backbone.norms if norm.statistics]
        if not norms:
            others = sorted({norm.type_name for norm in backbone.norms})
            raise PlanError(
                f"batch-norm: {type(backbone.model).__name__} has no batch norm or other norm that "
                "keeps running statistics"
                + (f"; its norms are {', '.join(others)}" if others else "")
            )
        parameters = {name for norm in norms for name in norm.parameters}
        names = {norm.name for norm in norms}
        notes = _notes(backbone)
        if self.train == "rest":
            return FreezePlan(parameters, names if self.statistics == "fixed" else (), notes=notes)
        frozen = backbone.parameters.keys() - parameters - set(backbone.head.parameters)
        inside = backbone.inside(frozen)
        held = inside | names if self.statistics == "fixed" else inside - names
        head_alone = "batch-norm: the norms have no weights to train, so only the head is trained"
        return FreezePlan(frozen, held, notes=notes, warnings=() if parameters else [head_alone])


def _notes(backbone: Backbone) -> list[str]:
    """Return notes on the norms that were found, and on their unusual properties."""
    norms = [norm for norm in backbone.norms if norm.statistics]
    kinds = Counter(norm.kind for norm in norms)
    found = " and ".join(_counted(count, kind) for kind, count in kinds.items())
    notes = [f"batch-norm: {found} found by type"]
    weightless = sum(not norm.parameters for norm in norms)
    if weightless:
        notes.append(f"batch-norm: {weightless} of them have no weights of their own to train")
    without = sum(norm.kind == "batch" and not norm.statistics for norm in backbone.norms)
    if without:
        skipped = _counted(without, "batch")
        notes.append(f"batch-norm: without running statistics, not frozen: {skipped}")
    return notes


def _counted(count: int, kind: str) -> str:
    return f"{count} {kind} norm{'' if count == 1 else 's'}"


@hookimpl
def freezekit_strategies() -> Iterable[type[Strategy]]:
    """Return the strategy of this module."""
    return [BatchNorm]
