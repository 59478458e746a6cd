"""`auto-rgn`: the learning rate of each stage by its relative gradient norm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, cast

from freezekit import Decision, FreezePlan, Schedule, hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from freezekit import Backbone, Progress

_AS_IT_IS = Decision()
_SMALLEST = 1e-6  # a factor must be above 0, and a stage may have no gradient


@dataclass(frozen=True)
class AutoRgn(Schedule):
    """Train each stage the faster, the larger its gradients are relative to its weights.

    The relative gradient norm (RGN) of a stage is the L2 norm of its gradients, divided by that of
    its weights. The first `batches` observations of each epoch are averaged. The stage with the
    largest average has the factor 1 of the learning rate, and the others have their share of it.
    Until the first average is known, all factors are 1.

    Weights: all trained, except in stages whose factor falls below `freeze_below`. These are frozen
    for good, as a frozen stage has no gradient to judge it by. Necks and the head can be among
    them. Running statistics: fixed in frozen stages. Randomness: off in frozen stages.

    Without `freeze_below` it saves neither memory nor time. With it, time may be saved later; the
    peak of the whole run is that of `full`.

    Source: Lee et al., Surgical Fine-Tuning Improves Adaptation to Distribution Shifts, arXiv
    2210.11466, and its code. The paper leaves a gap between it and the best block of stages chosen
    by hand. The code has a factor for each tensor, does not train batch norms, measures five
    batches before each epoch, and then makes a new optimizer. Here each stage has one factor, the
    measured batches are trained on, and the optimizer stays. A new head can have a large RGN, above
    all one with weights of 0. The other stages hardly move as long as it has.

    Example:
        >>> from freezekit import Backbone, Observed, Progress, load_backbone
        >>> view = Backbone(load_backbone("torchvision:resnet18", device="meta"))
        >>> schedule = AutoRgn(batches=1)
        >>> first = schedule.decide(view, Progress())
        >>> seen = Observed({"stem": 1.0, "head": 3.0}, {"stem": 2.0, "head": 1.5})
        >>> schedule.decide(view, Progress(1, 0, 1, observed=seen, state=first.state)).rates
        {'stem': 0.25, 'head': 1.0}
    """

    name: ClassVar[str] = "auto-rgn"
    summary: ClassVar[str] = "the rate of each stage by its relative gradient norm"

    every: Annotated[int, "optimizer steps from one observation to the next"] = 1
    batches: Annotated[int, "observations of an epoch that are averaged"] = 5
    freeze_below: Annotated[float, "freeze stages with a smaller factor, for good"] = 0.0

    def __post_init__(self) -> None:
        for name, value in (("every", self.every), ("batches", self.batches)):
            if value < 1:
                raise ValueError(f"{name} is {value}, expected 1 or more")
        if not 0 <= self.freeze_below < 1:
            raise ValueError(f"freeze_below is {self.freeze_below}, expected 0 or more, below 1")

    @property
    def observes(self) -> frozenset[Literal["gradients"]]:
        """The norms of gradients and weights."""
        return frozenset({"gradients"})

    @property
    def observe_every(self) -> int:
        """After how many optimizer steps they are observed."""
        return self.every

    def decide(self, backbone: Backbone, progress: Progress) -> Decision:
        """Average what is observed, and set the rates once in an epoch.

        Raises:
            StagingError: The model cannot be staged.
        """
        state, observed = progress.state, progress.observed
        if not state:
            return Decision(
                "full",
                state={"epoch": progress.epoch, "seen": 0, "sums": {}, "frozen": []},
                reason="everything, with the same factor",
            )
        seen = cast("int", state["seen"])
        is_done = seen == self.batches
        if not observed.gradient_norms or (is_done and state["epoch"] == progress.epoch):
            return _AS_IT_IS
        before = {} if is_done else cast("Mapping[str, float]", state["sums"])
        sums = {
            name: before.get(name, 0.0) + norm / max(observed.weight_norms.get(name, 0.0), 1e-12)
            for name, norm in observed.gradient_norms.items()
        }
        largest = max(sums.values())
        if not math.isfinite(sum(sums.values())):  # the training has diverged in this step
            return _AS_IT_IS
        seen = 1 if is_done else seen + 1
        new = dict(state)
        new |= {"epoch": progress.epoch, "seen": seen, "sums": {**sums}}
        if seen < self.batches or not largest:
            return Decision(state=new)
        rates = {name: max(total / largest, _SMALLEST) for name, total in sums.items()}
        slow = [name for name, rate in rates.items() if rate < self.freeze_below]
        if not slow:
            return Decision(rates=rates, state=new)
        names = [*cast("list[str]", state["frozen"]), *slow]
        new |= {"frozen": [*names]}
        reason = f"relative gradient norms below {self.freeze_below}: {', '.join(slow)}"
        return Decision(_without(backbone, names), rates, new, reason=reason)


def _without(backbone: Backbone, names: Sequence[str]) -> FreezePlan:
    stages = [stage for stage in backbone.stages if stage.name in names]
    frozen = {name for stage in stages for name in stage.parameters}
    return FreezePlan(frozen, backbone.inside(frozen, stages))


@hookimpl
def freezekit_schedules() -> Iterable[type[Schedule]]:
    """Return the schedule of this module."""
    return [AutoRgn]
