"""`freeze-out`: anneal the learning rate of each stage, then freeze it, from the stem on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from freezekit import Decision, Schedule, hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freezekit import Backbone, Progress

_AS_IT_IS = Decision()
_EXPONENTS = {"linear": 1, "cubic": 3}


@dataclass(frozen=True)
class FreezeOut(Schedule):
    """Let the learning rate of each stage fall to 0 on a cosine, then freeze the stage for good.

    The stem is frozen first, at the share `t0` of the run. The head and necks are trained to the
    end. The others are between them at equal distances. With `how=cubic`, the third power of each
    share counts: `t0=0.8` then freezes the stem after 51 % of the run. With `scaled`, a stage that
    is frozen after the share t begins with the factor 1/t, so that each has the same sum of rates.

    Weights: a growing prefix frozen. Running statistics: fixed in the prefix. Randomness: off in
    the prefix.

    A frozen prefix saves as `first-n-stages` does. The run begins as `full`, so its peak is that of
    `full`; time is saved from the first frozen stage on. Use no other scheduler beside it. If the
    steps of an epoch are not known, rates change after each epoch.

    Source: Brock et al., FreezeOut, arXiv 1706.04983, and its code for the rates. The paper trains
    from random weights on CIFAR, in layers and not in stages. It reports up to 20 % less time:
    without loss of accuracy for ResNets, with 3 % loss for DenseNets, and no improvement for VGG.

    Example:
        >>> from freezekit import Backbone, Progress, load_backbone
        >>> view = Backbone(load_backbone("torchvision:resnet18", device="meta"))
        >>> schedule = FreezeOut(t0=0.5, how="linear", scaled=False)
        >>> for epoch in (0, 50, 60):
        ...     decided = schedule.decide(view, Progress(epoch=epoch, epochs=100))
        ...     print(decided.plan, round(decided.rates["layer1"], 3) if epoch < 60 else "")
        full 1.0
        first-n-stages:n=0 0.067
        first-n-stages:n=1
    """

    name: ClassVar[str] = "freeze-out"
    summary: ClassVar[str] = "anneal the rate of each stage, then freeze it, from the stem on"

    t0: Annotated[float, "share of the run after which the stem is frozen, at most 1"] = 0.8
    how: Annotated[Literal["linear", "cubic"], "whether the shares or their cubes count"] = "cubic"
    scaled: Annotated[bool, "higher first rates for stages that are frozen earlier"] = True

    def __post_init__(self) -> None:
        if not 0 < self.t0 <= 1:
            raise ValueError(f"t0 is {self.t0}, expected a number above 0, at most 1")

    def decide(self, backbone: Backbone, progress: Progress) -> Decision:
        """Freeze the stages whose time is over, and lower the rates of the others.

        Raises:
            StagingError: The model cannot be staged.
            ScheduleError: The number of epochs is not known.
        """
        share = progress.share
        if share >= 1:  # all rates are 0 there, and no step follows
            return _AS_IT_IS
        prefix = [stage for stage in backbone.stages if stage.kind in ("stem", "body")]
        power = _EXPONENTS[self.how]
        rise = (1 - self.t0) / len(prefix)
        ends = [(self.t0 + rise * i) ** power for i in range(len(prefix))]
        frozen = sum(end <= share for end in ends)
        last = self._rate(share, 1.0)
        rates = {s.name: last for s in backbone.stages if s.kind not in ("stem", "body")}
        for stage, end in zip(prefix[frozen:], ends[frozen:], strict=True):
            rates[stage.name] = self._rate(share, end)
        if progress.state.get("frozen") == frozen:
            return Decision(rates=rates)
        return Decision(
            f"first-n-stages:n={frozen - 1}" if frozen else "full",
            rates,
            {"frozen": frozen},
            reason=f"{frozen} of {len(prefix)} stages before the head are frozen",
        )

    def _rate(self, share: float, end: float) -> float:
        """Return the factor of a stage that is frozen at a share, before that."""
        annealed = math.cos(math.pi / 2 * share / end) ** 2  # (1 + cos(pi share / end)) / 2
        return annealed / end if self.scaled else annealed


@hookimpl
def freezekit_schedules() -> Iterable[type[Schedule]]:
    """Return the schedule of this module."""
    return [FreezeOut]
