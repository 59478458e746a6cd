"""`gradual-unfreeze`: the head, then one more stage after each period."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from freezekit import Decision, Schedule, TrainingTime, hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freezekit import Backbone, Progress

_AS_IT_IS = Decision()


@dataclass(frozen=True)
class GradualUnfreeze(Schedule):
    """Train the head, then thaw one more stage after each period, from the head to the stem.

    The head and necks begin. The body follows from its last stage to its first, and the stem comes
    last. Thawed stages stay thawed. The head and necks have the factor 1 of the learning rate, and
    each stage before them has `decay` times the factor of the next stage.

    Weights: a shrinking prefix frozen. Running statistics: fixed in the prefix. Randomness: off in
    the prefix.

    Each phase saves what `last-n-stages` saves. The last phase trains everything, so the peak of
    the whole run is that of `full`. If the run ends earlier, the first stages are never trained: a
    transformer of 12 blocks needs 14 periods, such as `every=7%`.

    Source: Howard and Ruder, ULMFiT, arXiv 1801.06146. The evidence is on text classification with
    a recurrent network of a few layers. Its slanted triangular rates are no part of this: use a
    scheduler. The decay of 1/2.6 is the paper's. In deep models it stops the first stages almost:
    the factor is 4e-6 for the stem of a transformer of 12 blocks. Give a larger `decay` there.

    Example:
        >>> from freezekit import Backbone, Progress, load_backbone
        >>> view = Backbone(load_backbone("torchvision:resnet18", device="meta"))
        >>> schedule = GradualUnfreeze(decay=0.5)
        >>> [schedule.decide(view, Progress(epoch=epoch)).plan for epoch in (0, 1, 4, 5)]
        ['head-only', 'last-n-stages:n=1', 'last-n-stages:n=4', 'full']
        >>> schedule.decide(view, Progress()).rates["layer3"]
        0.25
    """

    name: ClassVar[str] = "gradual-unfreeze"
    summary: ClassVar[str] = "the head, then one more stage after each period"

    every: Annotated[TrainingTime, "how long each phase is"] = TrainingTime(1, "ep")
    decay: Annotated[float, "factor of the rate per stage back from the head, at most 1"] = 1 / 2.6

    def __post_init__(self) -> None:
        if not self.every.amount:
            raise ValueError(f"every is {self.every}, expected longer than 0")
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay is {self.decay}, expected a number above 0, at most 1")

    def decide(self, backbone: Backbone, progress: Progress) -> Decision:
        """Thaw as many stages as periods have passed.

        Raises:
            StagingError: The model cannot be staged.
            ScheduleError: `every` needs a total that is not known.
        """
        periods = progress.periods(self.every)
        if progress.state.get("periods") == periods:
            return _AS_IT_IS
        backward = (*reversed(backbone.body), backbone.stem)
        has_neck = any(stage.kind == "neck" for stage in backbone.stages)
        plans = [
            "last-n-stages:n=0" if has_neck else "head-only",
            *(f"last-n-stages:n={n}" for n in range(1, len(backward))),
            "full",
        ]
        thawed = min(periods, len(backward))
        return Decision(
            plans[thawed],
            {stage.name: self.decay**i for i, stage in enumerate(backward, start=1)},
            {"periods": periods},
            reason=f"{thawed} of {len(backward)} stages before the head are thawed",
        )


@hookimpl
def freezekit_schedules() -> Iterable[type[Schedule]]:
    """Return the schedule of this module."""
    return [GradualUnfreeze]
