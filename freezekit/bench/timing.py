"""Step times: one process hosts all strategies, takes their turns, and yields what it measured.

Protocol v1, without its statistics. Nothing is traced or profiled here, and nothing is printed.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from freezekit.bench.design import ROUNDS, WARMUP_STEPS, Design, block_order, fit_budget, refit
from freezekit.bench.sessions import Event, Hosts
from freezekit.results.records import CONTROL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

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
) -> Iterator[Event]:
    """Measure step times and yield events, each ready to be a line of JSON.

    Events, by "event":

    - "design": `Design.record()` under "design"; when it is known, and whenever the pace of a
      block changed it.
    - "progress": "doing" (a phrase), "done" and "total" turns; "total" is None until the design is
      known. One before each build and after each turn.
    - "block": "block" and its "order", "steps", "warmup" and "split", as in `Raw`; a block that did
      not end, or in which all failed, is never sent.
    - "failed": "label", "status" ("oom" or "error"), "error" and "block". It takes no further part;
      the others go on. Without the baseline they get their seconds, but no ratio.
    - "done": nothing more will come.

    The baseline is built and stepped once before the first block, and thrown away, so that lazy
    imports and first calls do not count as the pace of a block.

    Args:
        workload: The training step.
        variants: What to time, by label, the baseline first; "control" is taken by its second copy.
        design: What to measure; None for 8 blocks of 3 rounds.
        budget_seconds: Size the design to this time instead.
        spent_seconds: Of it, before this call.
        least_seconds: What blocks may take, whatever the budget leaves.
        seed: Of the random orders.
        registry: Where strategies come from; None for the default one.

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
    hosts = Hosts(workload, variants, warmup, registry)
    if design is not None:
        yield {"event": "design", "design": design.record()}
    yield from hosts.rehearse()
    overhead = spent_seconds + perf_counter() - begun
    took: list[float] = []
    try:
        while hosts.live and (design is None or len(took) < design.blocks):
            started = perf_counter()
            rounds = ROUNDS if design is None else design.rounds
            order = block_order([*variants, CONTROL], len(took), seed, rounds)
            yield from hosts.set_up(order.build, len(took), design)
            if design is None:
                design = fit_budget(
                    perf_counter() - started,
                    hosts.round_seconds(),
                    budget_seconds or 0.0,
                    warmup=warmup,
                    overhead_seconds=overhead,
                    least_seconds=least_seconds,
                )
                yield {"event": "design", "design": design.record()}
            yield from hosts.take_turns(order.rounds[: design.rounds], design)
            yield from hosts.take_splits(order.build)
            if hosts.live:
                yield hosts.block_event()
            hosts.tear_down()
            took.append(perf_counter() - started)
            if refit(design, took) != design:
                design = refit(design, took)
                yield {"event": "design", "design": design.record()}
    finally:
        hosts.tear_down()
    yield {"event": "done"}
