"""A training without a model's work: a schedule is asked as in a run, and its answers are kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from freezekit import Backbone, FreezePlan, Observed, Progress, load_backbone, plan
from freezekit.plugins.registering import default_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from freezekit import Decision, Schedule

_VIEWS: dict[str, Backbone] = {}


def view(name: str) -> Backbone:
    """Return the view of a model on meta; one for all tests, as staging takes long."""
    if name not in _VIEWS:
        _VIEWS[name] = Backbone(load_backbone(name, device="meta"))
    return _VIEWS[name]


def made(text: str) -> Schedule:
    return default_registry().schedule(text)


def trained(backbone: Backbone, decided: str | FreezePlan) -> set[str]:
    """Return the names of the stages that a plan trains. Each is trained whole or not at all."""
    whole = plan(backbone, decided) if isinstance(decided, str) else decided
    names = set()
    for stage in backbone.stages:
        parts = set(stage.parameters) - whole.frozen
        assert parts in (set(), set(stage.parameters)), f"a part of {stage.name}"
        if parts:
            names.add(stage.name)
    return names


@dataclass
class Run:
    """The answers of a schedule in a training of `epochs` by `steps`, in their order.

    Attributes:
        plans: Where a plan came: (epoch, step in the epoch), and the plan.
        rates: The rates in force for each step.
        reasons: The reasons of the plans.
        kept: The epochs whose weights were kept.
        restored: The epochs after which they were restored.
    """

    schedule: Schedule
    backbone: Backbone
    epochs: int
    steps: int
    observed: Callable[[int], Observed] = lambda _: Observed()
    metrics: Callable[[int], dict[str, float]] = lambda _: {}
    state: dict[str, Any] = field(default_factory=dict)
    now: dict[str, float] = field(default_factory=dict)
    plans: list[tuple[tuple[int, int], str | FreezePlan]] = field(default_factory=list)
    rates: list[dict[str, float]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    restored: list[int] = field(default_factory=list)

    def go(self) -> Run:
        """Train."""
        self._ask(0, 0, 0)
        for step in range(self.epochs * self.steps):
            self.rates.append(self.now)
            epoch, place = divmod(step, self.steps)
            self._ask(step + 1, epoch, place + 1, seen=self.observed(step + 1))
            if place + 1 == self.steps:
                self._ask(step + 1, epoch + 1, 0, metrics=self.metrics(epoch + 1))
        return self

    def _ask(
        self,
        step: int,
        epoch: int,
        place: int,
        seen: Observed | None = None,
        metrics: dict[str, float] | None = None,
    ) -> None:
        now = Progress(
            step,
            epoch,
            place,
            self.epochs,
            self.steps,
            metrics or {},
            seen or Observed(),
            self.state,
        )
        decided = self.schedule.decide(self.backbone, now)
        self._take(decided, epoch, place)

    def _take(self, decided: Decision, epoch: int, place: int) -> None:
        if decided.restores_weights:
            assert self.kept, "nothing was kept"
            self.restored.append(epoch)
        if decided.keeps_weights:
            self.kept.append(epoch)
        if decided.plan is not None:
            assert decided.reason
            self.plans.append(((epoch, place), decided.plan))  # type: ignore[arg-type]  # no Strategy
            self.reasons.append(decided.reason)
        if decided.rates is not None:
            self.now = dict(decided.rates)
        if decided.state is not None:
            self.state = dict(decided.state)


def stages(backbone: Backbone, *kinds: str) -> list[str]:
    return [stage.name for stage in backbone.stages if stage.kind in kinds]


def phases(run: Run) -> Iterator[tuple[tuple[int, int], set[str]]]:
    """Give the begin of each phase, and the stages that it trains."""
    for when, decided in run.plans:
        yield when, trained(run.backbone, decided)
