"""A training through the phases of a schedule; and again, killed and resumed at each change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.verify.claims import claims_of_plan
from freezekit.verify.live import Live, ScheduledRun
from freezekit.verify.phases import PhaseChecks
from freezekit.verify.reaching import still_metrics
from freezekit.verify.records import Check, count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Trained:
    """The training, its phases with their checks, and what it left for a comparison.

    Attributes:
        phases: The phases of at least one step.
        bits: The bits of parameters and buffers after each step.
        changes: The calls of the schedule that changed the plan, by their place among all calls.
    """

    def __init__(self, live: Live, run: ScheduledRun) -> None:
        self.live, self.run = live, run
        self.phases: list[PhaseChecks] = []
        self.bits: list[dict[str, bytes]] = []
        self.changes: set[int] = set()

    def go(self, tell: Callable[[str], object]) -> None:
        """Train and check."""
        live, run = self.live, self.run
        total, is_new, reason = run.epochs * run.steps_per_epoch, True, ""
        for call, is_step in enumerate(_calls(run)):
            if is_step:
                step = len(self.bits)
                if is_new:
                    self._begin(step, reason)
                tell(f"phase {len(self.phases)}, step {step + 1} of {total}")
                self.phases[-1].step(live)
                self.bits.append(live.bits())
                is_new = False
            before = len(live.run.transitions)
            _advance(live, is_step=is_step)
            if len(live.run.transitions) > before:
                self.changes.add(call)
                is_new, reason = True, live.run.transitions[-1].reason
        self._end()

    def _begin(self, step: int, reason: str) -> None:
        self._end()
        spec = self.live.run.state_dict()["given"] or reason
        self.phases.append(PhaseChecks(self.live, spec, step, self.run.steps_per_epoch))

    def _end(self) -> None:
        if self.phases:
            self.phases[-1].end(self.live)


def _calls(run: ScheduledRun) -> Iterator[bool]:
    """Yield what a followed schedule is told: True for a step, False for the end of an epoch."""
    for _ in range(run.epochs):
        yield from (True,) * run.steps_per_epoch
        yield False


def _advance(live: Live, *, is_step: bool) -> None:
    """Tell the schedule of a step, or of the end of an epoch."""
    if is_step:
        live.run.step()
    else:
        live.run.epoch(still_metrics(live.run.schedule))


def resumed(trained: Trained, tell: Callable[[str], object]) -> Check:
    """Train again, killed and resumed before and after each change of plan; compare all bits.

    It goes on to the end where bits differ: another rank, on which they do not, would wait for it.
    """
    run, first = trained.run, trained.live
    live, step = Live(run, first.task, first.begin), 0
    found: Check | None = None
    for call, is_step in enumerate(_calls(run)):
        if is_step:
            tell(f"resuming, step {step + 1} of {len(trained.bits)}")
            live.step(claims_of_plan(live.backbone, live.run.plan).trained)
            now, then = live.bits(), trained.bits[step]
            step += 1
            if found is None and (off := tuple(n for n in then if now.get(n) != then[n])):
                detail = f"{len(off)} differ after step {step} from a training not resumed"
                found = Check("resume", False, detail, off)
        if call in trained.changes:
            live = _again(live, run)
        _advance(live, is_step=is_step)
        if call in trained.changes:
            live = _again(live, run)
    changes = count(len(trained.changes), "change")
    detail = f"same bits if resumed before and after {changes}"
    if not trained.changes:
        detail = "same bits when trained again; no plan changed"
    return found or Check("resume", True, detail)


def _again(live: Live, run: ScheduledRun) -> Live:
    resumed = Live(run, live.task, live.begin)
    resumed.load(live.state())
    return resumed
