"""`Schedule`: the base class of all schedules, and `Decision`, what a schedule answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezekit.spec.named import Named

if TYPE_CHECKING:
    from collections.abc import Mapping

    from freezekit.backbone.view import Backbone
    from freezekit.freezing.plan import FreezePlan
    from freezekit.spec.progress import Data, Observation, Progress
    from freezekit.spec.strategy import Strategy


@dataclass(frozen=True)
class Decision:
    """What a schedule answers when it is asked.

    Attributes:
        plan: What is frozen from now on: a spec, a strategy or a plan. None: as it is.
        rates: Factors of the learning rate by the names of stages, beside the multipliers of the
            plan; finite, above 0, and 1 where a stage is missing. None: as they are. Factors can
            change in each step.
        state: What the schedule wants to remember, as JSON can hold it. It stands in the next
            `Progress`, and travels in the state dict. None: as it is.
        keeps_weights: Whether the weights of now are kept, in place of those kept before.
        restores_weights: Whether the kept weights replace those of now, before the plan changes.
        reason: Why, in words.
    """

    plan: str | Strategy | FreezePlan | None = None
    rates: Mapping[str, float] | None = None
    state: Mapping[str, Data] | None = None
    keeps_weights: bool = False
    restores_weights: bool = False
    reason: str = ""


class Schedule(Named):
    """A schedule decides, as training goes on, what is frozen next. It never changes the model.

    Subclass it as a frozen dataclass. The fields are the options, of the same types as those of a
    `Strategy`, and of the type `TrainingTime`, such as 1ep, 500step or 50%.

    The same backbone and the same progress give the same decision, on every rank and after a
    resume. So a schedule keeps nothing in itself: what it wants to remember, it returns as `state`.

    Attributes:
        name: Its name in a text: lower case, with hyphens.
        summary: One line for `freezekit schedules`.

    Example:
        >>> from dataclasses import dataclass
        >>> from typing import Annotated, ClassVar
        >>> from freezekit import Decision, Schedule, TrainingTime
        >>> @dataclass(frozen=True)
        ... class HeadFirst(Schedule):
        ...     '''Train the head, then all.'''
        ...     name: ClassVar[str] = "head-first"
        ...     summary: ClassVar[str] = "train the head, then everything"
        ...     until: Annotated[TrainingTime, "when the rest is thawed"] = TrainingTime(1, "ep")
        ...     def decide(self, backbone, progress):
        ...         is_late = progress.has_reached(self.until)
        ...         return Decision("full" if is_late else "head-only")
    """

    def __str__(self) -> str:
        """Return the text that makes it."""
        from freezekit.spec.grammar import format_named

        return format_named(self)

    @property
    def observes(self) -> frozenset[Observation]:
        """What it needs to see of the training. Nothing: its phases are known beforehand."""
        return frozenset()

    @property
    def observe_every(self) -> int:
        """After how many optimizer steps gradients, weights and outputs are observed."""
        return 1

    def plans(self) -> tuple[str | Strategy | FreezePlan, ...]:
        """Return plans that give one stage several multipliers, for finer parameter groups."""
        return ()

    def decide(self, backbone: Backbone, progress: Progress) -> Decision:
        """Return what is frozen from now on. The method has no side effects.

        Raises:
            PlanError: The schedule does not fit the backbone; the message says why.
            StagingError: The schedule needs stages, and the backbone has none.
            ScheduleError: It needs a total that is not known.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement decide()")
