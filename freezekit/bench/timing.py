"""Step times: one process holds all strategies, gives them turns, and yields what it measured.

Protocol v1, without its statistics. Nothing is traced, profiled or printed here.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from freezekit.bench.design import ROUNDS, WARMUP_STEPS, Design, block_order, fit_budget, refit
from freezekit.bench.sessions import Event, TimedStrategies
from freezekit.results.records import CONTROL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from freezekit.bench.phase_plan import PhasePlan
    from freezekit.plugins.registry import Registry
    from freezekit.results.records import Workload
    from freezekit.results.variant import Variant


def run_timing(
    workload: Workload,
    variants: Mapping[str, Variant],
    *,
    design: Design | None = None,
    budget_seconds: float | None = None,
    spent_seconds: float = 0.0,
    least_seconds: float = 0.0,
    seed: int = 0,
    registry: Registry | None = None,
    phases: Mapping[str, PhasePlan] | None = None,
    compiled_in: str | None = None,
) -> Iterator[Event]:
    """Measure step times and yield events, each ready to be a line of JSON.

    Events, by "event":

    - "design": `Design.record()` under "design"; when it is known, and when the pace of a block
      changes it.
    - "progress": "doing" (a phrase), "done" and "total" turns; "total" is None until the design is
      known. One before each build and after each turn.
    - "block": "block" and its "order", "steps", "warmup", "split" and "fill", as in `Raw`. Under
      "recompiled" are the labels of what was compiled again in a measured step. A block that did
      not end, or in which all failed, is not sent.
    - "failed": "label", "status" ("oom" or "error"), "error" and "block". That strategy is dropped;
      the others continue. Without the baseline they get seconds and no ratio.
    - "done": the last event.

    The baseline is built and stepped once before the first block, and dropped. So lazy imports and
    first calls do not count in the pace of a block.

    Args:
        workload: The training step.
        variants: What to time, by label, the baseline first. The label "control" is reserved for
            its second copy.
        design: What to measure; None for 8 blocks of 3 rounds.
        budget_seconds: A time for the whole run, to which the design is sized instead.
        spent_seconds: The part of the budget that was used before this call.
        least_seconds: What blocks may take even where the budget leaves less.
        seed: Of the random orders.
        registry: Where strategies are looked up; None for the default one.
        phases: Of the variants that are phases of a schedule, the plans by their specs.
        compiled_in: The folder in which Inductor keeps what it compiles; None for its usual place.

    Raises:
        ValueError: Both a design and a budget, or no or reserved labels.

    Example:
        >>> from freezekit.results.records import Workload
        >>> from freezekit.results.variant import Variant
        >>> tiny = Workload("timm:test_resnet", batch_size=1, image_size=32)
        >>> design = Design(blocks=1, rounds=1)
        >>> events = list(run_timing(tiny, {"full": Variant("full")}, design=design))
        >>> events[0]["event"], events[-1]["event"]
        ('design', 'done')
    """
    if design is not None and budget_seconds is not None:
        raise ValueError("give a design or a budget, not both: a budget makes its own design")
    if not variants or CONTROL in variants:
        raise ValueError(
            f"labels are {list(variants)!r}, expected at least one and none {CONTROL!r}"
        )
    begun = perf_counter()
    warmup = WARMUP_STEPS["cuda" if workload.device.startswith("cuda") else "cpu"]
    if design is None and budget_seconds is None:
        design = Design(warmup=warmup)
    warmup = warmup if design is None else design.warmup
    timed = TimedStrategies(workload, variants, warmup, registry, phases or {}, compiled_in)
    if design is not None:
        yield {"event": "design", "design": design.record()}
    yield from timed.warm_up_process()
    overhead = spent_seconds + perf_counter() - begun
    took: list[float] = []
    try:
        while timed.live and (design is None or len(took) < design.blocks):
            started = perf_counter()
            rounds = ROUNDS if design is None else design.rounds
            order = block_order([*variants, CONTROL], len(took), seed, rounds)
            yield from timed.set_up(order.build, len(took), design)
            if design is None:
                design = fit_budget(
                    perf_counter() - started,
                    timed.round_seconds(),
                    budget_seconds or 0.0,
                    warmup=warmup,
                    overhead_seconds=overhead,
                    least_seconds=least_seconds,
                )
                yield {"event": "design", "design": design.record()}
            yield from timed.take_turns(order.rounds[: design.rounds], design)
            yield from timed.take_splits(order.build)
            yield from timed.take_fills(order.build)
            if timed.live:
                yield timed.block_event()
            timed.tear_down()
            took.append(perf_counter() - started)
            if refit(design, took) != design:
                design = refit(design, took)
                yield {"event": "design", "design": design.record()}
    finally:
        timed.tear_down()
    yield {"event": "done"}
