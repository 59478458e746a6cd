"""What is to be measured, before it is: the plans of strategies and the phases of schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.bench.base_run import BaseRun
from freezekit.bench.schedule_rows import with_schedule
from freezekit.errors import ScheduleError
from freezekit.results.records import Result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.bench.processes import Event, Workers
    from freezekit.plugins.registry import Registry
    from freezekit.results.variant import Variant

PLAN_FIELDS = ("plan", "trained_before")
"""What `PhasePlan.as_data` makes; measuring processes get these of a phase."""


class LookUp(BaseRun[Result]):
    """One process that observes the model and measures nothing.

    Attributes:
        result: With the workload, the versions, the digests of plans, and the rows of schedules.
        phases: The plans of the rows that are phases, by what stands in place of a spec.
    """

    def __init__(
        self,
        result: Result,
        schedules: Sequence[Variant],
        registry: Registry,
        block: Sequence[str],
        threads: int | None,
    ) -> None:
        """Start with the rows of strategies; `schedules` is what `choose_schedules` returns."""
        super().__init__(result, lambda _: None, block, threads)
        self.phases: dict[str, Event] = {}
        self._schedules = schedules
        self._registry = registry
        self._length = 1, 1

    def find(self, workers: Workers, epochs: int, steps_per_epoch: int) -> None:
        """Find the plans and the phases.

        Raises:
            ScheduleError: A schedule does not fit the model or the run.
            FreezekitError: The model cannot be observed.
        """
        self._length = epochs, steps_per_epoch
        job = {
            **self.job("plans", [row.variant for row in self.result.rows]),
            "schedules": list(dict.fromkeys(asked.spec for asked in self._schedules)),
            "totals": {"epochs": epochs, "steps_per_epoch": steps_per_epoch},
        }
        self.follow(
            workers.events(job),
            {"plan": self._take_plan, "phases": self._take_phases, "refused": self._refuse},
        )

    def _take_plan(self, event: Event) -> None:
        self.update(event["label"], plan_digest=event["plan_digest"])

    def _take_phases(self, event: Event) -> None:
        text, phases = event["schedule"], event["phases"]
        for asked in self._schedules:
            if asked.spec == text:
                self.result = with_schedule(
                    self.result, asked, phases, self._length, self._registry
                )
        of_plan = {phase["plan_digest"]: phase for phase in phases}
        for row in self.result.rows:
            if row.phase is not None and row.phase.schedule == text:
                found = of_plan[str(row.plan_digest)]
                self.phases[row.strategy] = {name: found[name] for name in PLAN_FIELDS}

    def _refuse(self, event: Event) -> None:
        raise ScheduleError(f"the schedule {event['schedule']!r}: {event['error']}")
