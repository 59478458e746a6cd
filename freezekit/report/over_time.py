"""What a whole training under a schedule costs, as text: a table of its phases, and a sentence."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from freezekit.report import formatting
from freezekit.report.cells import COLUMNS, Cells, Column, tabulate
from freezekit.results.derived import baseline, fraction
from freezekit.results.lean_text import lean_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.results.records import Result, Row, RunTime, ScheduleCost, SchedulePhase


def rows_of_strategies(result: Result) -> tuple[Row, ...]:
    """Return the rows that were asked for themselves; those of phases are shown by schedule."""
    return tuple(row for row in result.rows if row.phase is None)


def schedule_title(schedule: ScheduleCost) -> str:
    """Return a schedule and its run, in one line.

    Example:
        >>> from freezekit.results.records import ScheduleCost, SchedulePhase
        >>> phases = (SchedulePhase("0ep", 10, "full", "full"),)
        >>> schedule_title(ScheduleCost("full", True, 1, 10, phases))
        'full [lean]: 1 epoch of 10 steps'
    """
    lean = f" [{lean_name(schedule.lean)}]" if schedule.lean else ""
    epochs = "1 epoch" if schedule.epochs == 1 else f"{schedule.epochs:,} epochs"
    text = formatting.plain(schedule.schedule).replace("\n", " ")
    return f"{text}{lean}: {epochs} of {_steps(schedule.steps_per_epoch)}"


def phase_cells(result: Result, schedule: ScheduleCost) -> Cells:
    """Return what the table of a result says of each phase, and when it begins."""
    by_label = {row.label: row for row in result.rows}
    rows = [(result, by_label[phase.row], phase) for phase in schedule.phases]
    return tabulate(PHASE_COLUMNS, rows)


def phase_labels(schedule: ScheduleCost) -> tuple[str, ...]:
    """Return the number of each phase, and its plan.

    Example:
        >>> from freezekit.results.records import ScheduleCost, SchedulePhase
        >>> phases = (SchedulePhase("0ep", 10, "head-only", "head-only"),)
        >>> phase_labels(ScheduleCost("head-only", False, 1, 10, phases))
        ('1: head-only',)
    """
    return tuple(f"{i}: {phase.spec or 'a plan'}" for i, phase in enumerate(schedule.phases, 1))


def whole_run(result: Result, schedule: ScheduleCost) -> str:
    """Return what all steps of a schedule take, as far as it is known.

    Example:
        >>> from freezekit.results.records import Result, ScheduleCost, SchedulePhase, Workload
        >>> phases = (SchedulePhase("0ep", 10, "full", "full"),)
        >>> one = ScheduleCost("full", False, 1, 10, phases, flops=6 * 10**9, flops_ratio=1.0)
        >>> whole_run(Result("0.1.0", Workload("timm:resnet18"), {}), one)
        'whole run: 10 steps; 6 GFLOP, 1.00 of full'
    """
    parts = [
        _steps(schedule.steps),
        _peak(result, schedule),
        _flops(schedule),
        None if schedule.time is None else _time(schedule.time),
    ]
    return "whole run: " + "; ".join(part for part in parts if part)


def _steps(count: int) -> str:
    return f"{count:,} step{'' if count == 1 else 's'}"


def _peak(result: Result, schedule: ScheduleCost) -> str | None:
    if schedule.peak_bytes is None:
        return None
    text = f"highest peak {formatting.mib(schedule.peak_bytes)} MiB"
    full = baseline(result)
    if full is None or full.memory.peak_method != schedule.peak_method:
        return text
    remaining = fraction(schedule.peak_bytes, full.memory.peak_bytes)
    return text if remaining is None else f"{text} ({formatting.change(remaining - 1)} vs full)"


def _flops(schedule: ScheduleCost) -> str | None:
    if schedule.flops is None:
        return None
    text = f"{schedule.flops / 1e9:,.0f} GFLOP"
    return text if schedule.flops_ratio is None else f"{text}, {schedule.flops_ratio:.2f} of full"


def _time(time: RunTime) -> str:
    text = f"{formatting.number(time.seconds)} s, full {formatting.number(time.full_seconds)} s"
    if time.ratio is None:
        return text
    return f"{text}, ratio {formatting.ratio(time.ratio, time.ratio_ci, time.verdict)}" + (
        f": {time.verdict}" if time.verdict else ""
    )


def _of_phase(column: Column) -> Column:
    def text(result: Result, row: Row, _: SchedulePhase) -> str:
        return column.text(result, row)

    return replace(column, text=text, value=None)


PHASE_COLUMNS: Sequence[Column] = (
    Column("begins", ("", "begins"), lambda _, __, phase: phase.begins),
    Column("steps", ("", "steps"), lambda _, __, phase: f"{phase.steps:,}"),
    *map(_of_phase, COLUMNS),
)
