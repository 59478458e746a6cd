"""What earlier runs have measured already and need not measure again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.results.variant import BASELINE

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from freezekit.results.records import Result, Row
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
        if row.variant in wanted and row.status == "ok" and (static_only or row.time is not None)
        if _is_of_now(row, wanted[row.variant])
    }


def _is_of_now(before: Row, now: Row) -> bool:
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


def _variants(result: Result) -> set[Variant]:
    return {row.variant for row in result.rows}


def _reach(result: Result, variants: Collection[Variant]) -> tuple[int, int]:
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
