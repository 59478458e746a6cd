"""From the figures of rows to those of a whole run under a schedule; pure, no torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from msgspec.structs import replace

from freezekit.bench.statistics import Estimate, block_score, estimate, verdict
from freezekit.results.derived import baseline, flops, fraction, noise_floor
from freezekit.results.records import MOST, Raw, RunTime

if TYPE_CHECKING:
    from collections.abc import Mapping

    from freezekit.results.records import Result, Row, ScheduleCost


def totals(result: Result) -> tuple[ScheduleCost, ...]:
    """Return the schedules of a result with the totals that its rows allow.

    Example:
        >>> from freezekit.results.records import (
        ...     Flops, Memory, Result, Row, ScheduleCost, SchedulePhase, Workload)
        >>> rows = (Row("full", memory=Memory(9, "measured"), flops=Flops(2, 4)),
        ...         Row("head-only", memory=Memory(5, "measured"), flops=Flops(2, 1)))
        >>> phases = SchedulePhase("0ep", 10, None, "head-only"), SchedulePhase(
        ...     "1ep", 10, None, "full")
        >>> asked = ScheduleCost("head-only then full at 1ep", False, 2, 10, phases)
        >>> work = Workload("timm:resnet18")
        >>> (found,) = totals(Result("0.1.0", work, {}, rows, schedules=(asked,)))
        >>> found.peak_bytes, found.flops, found.flops_ratio
        (9, 90, 0.75)
    """
    return tuple(_total(result, one) for one in result.schedules)


def _total(result: Result, schedule: ScheduleCost) -> ScheduleCost:
    by_label = {row.label: row for row in result.rows}
    rows = [by_label[phase.row] for phase in schedule.phases]
    methods = {row.memory.peak_method for row in rows}
    peaks = [row.memory.peak_bytes for row in rows]
    is_alike = len(methods) == 1 and None not in methods
    steps = [phase.steps for phase in schedule.phases]
    work = _sum(steps, [flops(row) for row in rows])
    full = baseline(result)
    of_full = None if full is None else _sum([schedule.steps], [flops(full)])
    return replace(
        schedule,
        peak_bytes=max((peak for peak in peaks if peak is not None), default=None)
        if is_alike
        else None,
        peak_method=methods.pop() if is_alike else None,
        flops=None if work is None or work > MOST else int(work),
        flops_ratio=fraction(work, of_full) or None,
        time=_time(result, schedule, rows, full),
    )


def _time(
    result: Result, schedule: ScheduleCost, rows: list[Row], full: Row | None
) -> RunTime | None:
    steps = [phase.steps for phase in schedule.phases]
    medians = [row.time.step_seconds.median if row.time else None for row in rows]
    seconds = _sum(steps, medians)
    if seconds is None or full is None or full.time is None:
        return None
    shares: dict[str, float] = {}
    for phase in schedule.phases:
        shares[phase.row] = shares.get(phase.row, 0.0) + phase.steps / schedule.steps
    found = run_estimate(result.raw or Raw(), shares, full.label)
    floor = noise_floor(result)
    return RunTime(
        seconds,
        schedule.steps * full.time.step_seconds.median,
        None if found is None else found.ratio,
        None if found is None else found.ci,
        None if found is None else verdict(found, floor and math.log1p(floor)),
    )


def run_estimate(raw: Raw, shares: Mapping[str, float], baseline: str) -> Estimate | None:
    """Return the ratio of a run's time to that of the baseline, with its interval over blocks.

    In each block the ratios of the phases are summed, weighted by their shares of the steps. So the
    noise that phases share in a block is not taken for independent.

    Args:
        raw: Complete blocks. Those count in which all phases and the baseline have all turns.
        shares: Of the steps of the run, by the label of the row; they sum to 1.
        baseline: The label of the baseline. As a phase, its ratio is exactly 1.

    Example:
        >>> block = [{"full": [9.0, 1.0, 1.0], "head-only": [9.0, 0.5, 0.5]}]
        >>> raw = Raw(steps=[block, block])
        >>> run_estimate(raw, {"head-only": 0.5, "full": 0.5}, "full")
        Estimate(ratio=0.75, ci=(0.75, 0.75), blocks=2)
    """
    needed = {*shares, baseline}
    blocks = [
        rounds for rounds in raw.steps if rounds and all(needed <= turns.keys() for turns in rounds)
    ]
    scores = [
        math.log(
            sum(
                share * math.exp(block_score(rounds, name, baseline))
                for name, share in shares.items()
            )
        )
        for rounds in blocks
    ]
    return estimate(scores) if scores else None


def _sum(steps: list[int], each: list[int | None] | list[float | None]) -> float | None:
    """Return the sum over phases of steps times a figure of a step, None where one is missing."""
    known = [value for value in each if value is not None]
    if len(known) < len(steps):
        return None
    return sum(count * value for count, value in zip(steps, known, strict=True))
