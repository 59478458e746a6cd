"""`plasticity`: freeze stages from the front as their outputs settle."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, cast

from freezekit import Decision, Schedule, hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from freezekit import Backbone, Progress

_AS_IT_IS = Decision()


@dataclass(frozen=True)
class Plasticity(Schedule):
    """Freeze the stages from the front, each when the change of its output has settled.

    The plasticity of a stage is how much its output for a fixed batch has changed since the last
    observation. A line is fitted to the last `window` values of the first stage that is trained. If
    it rises or falls over the window by at most `tolerance` of their mean, the stage is frozen, and
    the next one is watched. If the learning rate rises to `restart` times its lowest value since
    the last restart, as in a cyclic schedule, all stages are thawed. The head and necks are always
    trained.

    Weights: a growing prefix frozen. Running statistics: fixed in the prefix. Randomness: off in
    the prefix.

    A frozen prefix saves as `first-n-stages` does. The run begins as `full`, so its peak is that of
    `full`. Each observation costs a forward pass of the fixed batch. A stage that goes on changing
    at an even pace is frozen too.

    Source: Wang et al., Egeria, arXiv 2201.06227, which reports a speedup of 19 to 43 % over the
    state of the art, without loss of accuracy. It compares outputs with those of a quantized
    reference model, which it makes during training, and stores outputs of frozen layers. Here
    outputs are compared with those at the last observation, and nothing is stored: do not expect
    that speedup.

    Example:
        >>> from freezekit import Backbone, Observed, Progress, load_backbone
        >>> view = Backbone(load_backbone("torchvision:resnet18", device="meta"))
        >>> schedule, state = Plasticity(every=10, window=2), {}
        >>> for step, change in ((0, 0), (10, 0.4), (20, 0.2), (30, 0.19)):
        ...     seen = Observed(output_changes={"stem": change}, rate=0.1)
        ...     decided = schedule.decide(view, Progress(step, observed=seen, state=state))
        ...     state = decided.state
        >>> decided.plan, decided.reason
        ('first-n-stages:n=0', 'the output of stem has settled')
    """

    name: ClassVar[str] = "plasticity"
    summary: ClassVar[str] = "freeze stages from the front as their outputs settle"

    every: Annotated[int, "optimizer steps from one observation to the next"] = 100
    window: Annotated[int, "observations that a stage is judged by, at least 2"] = 5
    tolerance: Annotated[float, "relative change over the window that counts as settled"] = 0.2
    restart: Annotated[float, "rise of the learning rate that thaws all, above 1"] = 2.0

    def __post_init__(self) -> None:
        for name, bound in (("every", 0), ("window", 1), ("tolerance", 0), ("restart", 1)):
            if getattr(self, name) <= bound:
                raise ValueError(f"{name} is {getattr(self, name)}, expected more than {bound}")

    @property
    def observes(self) -> frozenset[Literal["outputs", "rate"]]:
        """How the outputs of stages change, and the learning rate."""
        return frozenset({"outputs", "rate"})

    @property
    def observe_every(self) -> int:
        """After how many optimizer steps they are observed."""
        return self.every

    def decide(self, backbone: Backbone, progress: Progress) -> Decision:
        """Freeze the first stage that is trained if it has settled; thaw all at a restart.

        Raises:
            StagingError: The model cannot be staged.
        """
        state, changes = progress.state, progress.observed.output_changes
        if not state:
            return Decision(
                "full",
                state={"step": progress.step, "frozen": 0, "history": [], "lowest": None},
                reason="everything, until outputs settle",
            )
        if not changes or progress.step == state["step"]:  # at an epoch's end it is asked again
            return _AS_IT_IS
        new = {**state, "step": progress.step}
        lowest, rate = cast("float | None", state["lowest"]), progress.observed.rate
        frozen = cast("int", state["frozen"])
        if rate is not None:
            if lowest is not None and rate >= self.restart * lowest > 0:
                new |= {"frozen": 0, "history": [], "lowest": rate}
                plan = "full" if frozen else None
                return Decision(plan, state=new, reason=f"the learning rate rose to {rate:g}")
            new["lowest"] = rate if lowest is None else min(rate, lowest)
        prefix = [stage.name for stage in backbone.stages if stage.kind in ("stem", "body")]
        watched = next((i for i in range(frozen, len(prefix)) if prefix[i] in changes), None)
        if watched is None or not math.isfinite(changes[prefix[watched]]):
            return Decision(state=new)
        before = cast("list[float]", state["history"])
        history = [*before, changes[prefix[watched]]][-self.window :]
        if len(history) < self.window or not self._has_settled(history):
            return Decision(state=new | {"history": [*history]})
        new |= {"frozen": watched + 1, "history": []}
        reason = f"the output of {prefix[watched]} has settled"
        return Decision(f"first-n-stages:n={watched}", state=new, reason=reason)

    def _has_settled(self, history: Sequence[float]) -> bool:
        """Tell whether a line through the values is flat, relative to their mean."""
        last = len(history) - 1
        places = [i - last / 2 for i in range(len(history))]
        rise = last * sum(p * h for p, h in zip(places, history, strict=True))
        flat = sum(p * p for p in places)
        return abs(rise / flat) <= self.tolerance * sum(history) / len(history)


@hookimpl
def freezekit_schedules() -> Iterable[type[Schedule]]:
    """Return the schedule of this module."""
    return [Plasticity]
