"""What earlier runs have measured already and need not measure again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezekit.results.variant import BASELINE

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from freezekit.results.records import Result, Row, ScheduleCost, ScheduleKey
    from freezekit.results.variant import Variant

FACTS = ("device", "threads", "torch", "torchvision", "timm", "model_digest")
"""What of the environment makes figures of before those of now."""


def already_measured(
    variants: Collection[Variant], earlier: Sequence[Result], now: Result, *, static_only: bool
) -> dict[Variant, Result]:
    """Return the variants that are measured already, each with the last run that has it.

    A row of before counts where its plan, and the plugin of its strategy, are those of now.

    Args:
        variants: What was asked for.
        earlier: Results of the file.
        now: The new run, with its workload, versions and plans resolved.
        static_only: Whether step times are not asked for.

    Example:
        >>> from freezekit.results.records import Result, Row, Workload
        >>> from freezekit.results.variant import Variant
        >>> full, head = Row("full", plan_digest="a"), Row("head-only", plan_digest="b")
        >>> now = Result("0.1.0", Workload("timm:resnet18"), {"torch": "2.15.0"}, (full, head))
        >>> before = Result("0.1.0", now.workload, now.env, (full,), complete=True)
        >>> asked = [Variant("full"), Variant("head-only")]
        >>> [v.label for v in already_measured(asked, [before], now, static_only=True)]
        ['full']
    """
    wanted = {row.variant: row for row in now.rows if row.variant in variants}
    return {
        row.variant: result
        for result in earlier
        if result.complete and _alike(result, now)
        for row in result.rows
        if row.variant in wanted and _counts(row, wanted[row.variant], static_only)
    }


def _counts(before: Row, now: Row, static_only: bool) -> bool:
    """Return whether a row was measured, with the plan and the plugin of now."""
    if before.status != "ok" or not (static_only or before.time is not None):
        return False
    has_plan = now.plan_digest is not None
    return has_plan and (before.plan_digest, before.plugin) == (now.plan_digest, now.plugin)


def left_to_measure(variants: Sequence[Variant], done: Collection[Variant]) -> tuple[Variant, ...]:
    """Return the variants that are not done; nothing where all are.

    Where some are left, the baseline is among them: ratios are within one run.

    Example:
        >>> from freezekit.results.variant import Variant
        >>> asked = [Variant("full"), Variant("head-only")]
        >>> [v.label for v in left_to_measure(asked, asked[:1])], left_to_measure(asked, asked)
        (['full', 'head-only'], ())
    """
    left = [variant for variant in variants if variant not in done]
    return tuple(dict.fromkeys([BASELINE, *left])) if left else ()


def schedules_measured(
    earlier: Sequence[Result], now: Result, *, static_only: bool
) -> dict[ScheduleKey, Result]:
    """Return the schedules of a new run that are measured already, each with the run that has it.

    The ratios of a schedule's phases are combined within a run. So a schedule counts only where all
    of its rows are in one run, and are those of now.

    Args:
        earlier: Results of the file.
        now: The new run, with its schedules, and with rows that have their plans resolved.
        static_only: Whether step times are not asked for.
    """
    asked = {one.key: one for one in now.schedules}
    rows = {row.label: row for row in now.rows}

    def has_all(run: Result, one: ScheduleCost) -> bool:
        labels = {phase.row for phase in one.phases}
        found = [row for row in run.rows if row.label in labels]
        return all(_counts(row, rows[row.label], static_only) for row in found)

    return {
        one.key: run
        for run in earlier
        if run.complete and _alike(run, now)
        for one in run.schedules
        if one.key in asked and one.phases == asked[one.key].phases and has_all(run, one)
    }


@dataclass(frozen=True)
class Left:
    """What a run measures, and what it need not.

    Attributes:
        rows: To measure; none where nothing is left.
        schedules: Those whose rows are among `rows`.
        measured_before: The other variants, each with the earlier run that has it.
    """

    rows: tuple[Row, ...]
    schedules: tuple[ScheduleCost, ...]
    measured_before: dict[Variant, Result]


def left_of(now: Result, earlier: Sequence[Result], *, static_only: bool) -> Left:
    """Return what is left to measure of a new run.

    Args:
        now: Rows and schedules that were asked for, with workload, versions and plans resolved.
        earlier: Results of the file.
        static_only: Whether step times are not asked for.
    """
    done = schedules_measured(earlier, now, static_only=static_only)
    schedules = tuple(one for one in now.schedules if one.key not in done)
    needed = {phase.row for one in schedules for phase in one.phases}
    variants = [row.variant for row in now.rows]
    before = already_measured(variants, earlier, now, static_only=static_only)
    before = {v: run for v, run in before.items() if v.label not in needed}
    asked = [row.variant for row in now.rows if row.phase is None or row.label in needed]
    left = left_to_measure(asked, before)
    rows = tuple(row for row in now.rows if row.variant in left)
    return Left(rows, schedules, before)


def with_run(results: Sequence[Result], now: Result) -> tuple[Result, ...]:
    """Return the runs of a file with a new one; of a run that was begun twice, the fuller one.

    So the file never holds two runs of the same rows, and never less than before. A complete run
    replaces an interrupted one, whatever figures that had.

    Example:
        >>> from msgspec.structs import replace
        >>> from freezekit.results.records import Parameters, Result, Row, Workload
        >>> begun = Result("0.1.0", Workload("timm:resnet18"), {}, (Row("full"),))
        >>> further = replace(begun, rows=(Row("full", parameters=Parameters(9, 9, "a")),))
        >>> with_run([further], begun) == (further,) == with_run([begun], further)
        True
    """
    kept = tuple(before for before in results if not _superseded(before, now))
    waits = not now.complete and any(_is_begun_again(before, now) for before in kept)
    return kept if waits else (*kept, now)


def _superseded(earlier: Result, now: Result) -> bool:
    if not _alike(earlier, now) or not _variants(earlier) <= _variants(now):
        return False
    instead = now.complete and not earlier.complete
    return instead or _reach(now, _variants(earlier)) >= _reach(earlier, _variants(earlier))


def _is_begun_again(earlier: Result, now: Result) -> bool:
    if not _alike(earlier, now):
        return False
    before, after = _variants(earlier), _variants(now)
    return before == after or (before <= after and not earlier.complete)


def _variants(result: Result) -> set[Variant | ScheduleKey]:
    """Return what was asked of a run: its rows, and the keys of its schedules."""
    return {*(row.variant for row in result.rows), *(one.key for one in result.schedules)}


def _reach(result: Result, variants: Collection[object]) -> tuple[int, int]:
    """Return how far a run got with some rows: the figures that they have, and blocks of steps."""
    found = 0
    for row in result.rows:
        if row.variant in variants and row.status == "ok":
            is_measured = row.memory.peak_method == "measured"
            found += sum((row.parameters is not None, is_measured, row.time is not None))
    return found, len(result.raw.steps) if result.raw else 0


def _alike(earlier: Result, now: Result) -> bool:
    """Return whether two runs measure the same: the same step, model, versions and protocol."""
    return (
        earlier.workload.key == now.workload.key
        and (earlier.freezekit, earlier.protocol) == (now.freezekit, now.protocol)
        and all(earlier.env.get(name) == now.env.get(name) for name in FACTS)
    )
