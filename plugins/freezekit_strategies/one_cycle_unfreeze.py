"""`one-cycle-unfreeze`: fastai's `fine_tune`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from freezekit import Decision, Schedule, ScheduleError, TrainingTime, hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freezekit import Backbone, Progress

# fastai's numbers. The first cycle rises from 1/25, and falls only in its last 1 %. Both cycles end
# at 1e-5 of the highest rate.
_FROZEN_DIV, _FROZEN_PCT_START, _DIV_FINAL = 25.0, 0.99, 1e5


@dataclass(frozen=True)
class OneCycleUnfreeze(Schedule):
    """Train the head for one cycle of the learning rate, then everything for another.

    A cycle is a rise and a fall, both on a cosine. The optimizer's learning rate is the highest of
    the first cycle. In the second, the head has half of it as its highest, the stem `lr_mult` times
    less, and the stages between them are spaced geometrically. Necks are trained with the head, at
    its rate. Use no other scheduler beside it.

    Weights: all frozen except the head and necks in the first cycle, then all trained. Running
    statistics and randomness: live where weights are trained.

    The first cycle saves what `head-only` saves. The peak of the whole run is that of `full`.

    Source: `Learner.fine_tune` of fastai, with the numbers of its code. Here the norms of the
    frozen part are frozen too (fastai trains them), momentum is not cycled, the optimizer keeps its
    state at the thaw, and stages stand for fastai's groups of parameters.

    Example:
        >>> from freezekit import Backbone, Progress, load_backbone
        >>> view = Backbone(load_backbone("torchvision:resnet18", device="meta"))
        >>> for epoch in (0, 1):
        ...     now = Progress(epoch=epoch, epochs=5, steps_per_epoch=100)
        ...     decided = OneCycleUnfreeze().decide(view, now)
        ...     print(decided.plan, {s: f"{rate:.4g}" for s, rate in decided.rates.items()})
        head-only {'head': '0.04'}
        full {'layer4': '0.03981', 'layer3': '0.01585', 'layer2': '0.00631', 'layer1': '0.002512',
              'stem': '0.001', 'head': '0.1'}
    """

    name: ClassVar[str] = "one-cycle-unfreeze"
    summary: ClassVar[str] = "one cycle for the head, then one for all (fastai)"

    frozen: Annotated[TrainingTime, "how long the head is trained alone"] = TrainingTime(1, "ep")
    lr_mult: Annotated[float, "rate of the head divided by that of the stem, at least 1"] = 100.0
    pct_start: Annotated[float, "share of the second cycle in which the rate rises"] = 0.3
    div: Annotated[float, "highest rate of the second cycle divided by its first"] = 5.0

    def __post_init__(self) -> None:
        if not self.frozen.amount:
            raise ValueError(f"frozen is {self.frozen}, expected longer than 0")
        if not 0 < self.pct_start < 1:
            raise ValueError(f"pct_start is {self.pct_start}, expected a number between 0 and 1")
        if not (1 <= self.lr_mult < math.inf and 1 <= self.div < math.inf):
            raise ValueError(f"lr_mult={self.lr_mult}, div={self.div}: expected 1 or more, finite")

    def decide(self, backbone: Backbone, progress: Progress) -> Decision:
        """Thaw everything after the first cycle, and move the rates in each step.

        Raises:
            StagingError: The model cannot be staged.
            ScheduleError: A total is not known, or the first cycle takes the whole run.
        """
        thaw = progress.in_epochs(self.frozen)
        if progress.epochs is None or progress.steps_per_epoch is None:
            raise ScheduleError(
                "one-cycle-unfreeze moves the rates in each step, and needs the number of epochs "
                "and of steps: give epochs= and steps_per_epoch=, such as len(loader)"
            )
        if thaw >= progress.epochs:
            raise ScheduleError(
                f"one-cycle-unfreeze trains the head alone for {self.frozen}, but the training "
                f"has only {progress.epochs:.4g} epoch(s); give more epochs, or a shorter time as "
                "frozen"
            )
        position = progress.position
        is_thawed = position >= thaw
        if is_thawed:
            share = min((position - thaw) / (progress.epochs - thaw), 1.0)
            rates = self._thawed_rates(backbone, 0.5 * _one_cycle(share, self.pct_start, self.div))
        else:
            rate = _one_cycle(position / thaw, _FROZEN_PCT_START, _FROZEN_DIV)
            late = (s.name for s in backbone.stages if s.kind in ("neck", "head"))
            rates = dict.fromkeys(late, rate)
        if progress.state.get("is_thawed") == is_thawed:
            return Decision(rates=rates)
        state, has_neck = {"is_thawed": is_thawed}, any(s.kind == "neck" for s in backbone.stages)
        if is_thawed:
            return Decision("full", rates, state, reason="the second cycle, of everything")
        plan = "last-n-stages:n=0" if has_neck else "head-only"
        return Decision(plan, rates, state, reason="the first cycle, of the head")

    def _thawed_rates(self, backbone: Backbone, highest: float) -> dict[str, float]:
        early = [stage.name for stage in backbone.stages if stage.kind in ("stem", "body")]
        ratio = self.lr_mult ** (-1 / len(early))
        rates = {name: highest * ratio**i for i, name in enumerate(reversed(early), start=1)}
        return rates | {s.name: highest for s in backbone.stages if s.name not in rates}


def _one_cycle(share: float, pct_start: float, div: float) -> float:
    """Return the rate at a share of a cycle, as part of its highest."""
    start, end, part = 1 / div, 1.0, share / pct_start
    if share >= pct_start:
        start, end, part = 1.0, 1 / _DIV_FINAL, (share - pct_start) / (1 - pct_start)
    return start + (end - start) * (1 - math.cos(math.pi * part)) / 2


@hookimpl
def freezekit_schedules() -> Iterable[type[Schedule]]:
    """Return the schedule of this module."""
    return [OneCycleUnfreeze]
