"""The phases of a run as text: one table of the phases, and one of stages by phases."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from freezekit.backbone.staged import stages_or_reason
from freezekit.cli.phases import STEPS
from freezekit.freezing.describe import StageSummary, summarise
from freezekit.report.cache_text import size
from freezekit.report.formatting import MISSING, gflop, mib, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from freezekit.backbone.view import Backbone
    from freezekit.cli.phases import Cost, Followed
    from freezekit.schedules.preview import Phase

IN_A_GRID = 8
"""Phases side by side at most. More are hard to read, though narrow cells fit into 80 columns."""
NOTHING = 1 / 1000
"""Of the first multiplier of a phase: a last one below this share is shown as "~0". A stage that is
annealed ends near 0, and the digits of that number say nothing."""
GAP = 2
"""Columns between two columns of a table."""


def phase_table(followed: Followed, backbone: Backbone, width: int = 80) -> str:
    """Return the phases as plain text of at most `width` columns if names allow it."""
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, highlight=False, markup=False)
    several = "phase" if len(followed.phases) == 1 else "phases"
    epochs = "1 epoch" if followed.epochs == 1 else f"{followed.epochs} epochs"
    counted = followed.steps_per_epoch is not None
    console.print(
        f"{type(backbone.model).__name__}: {len(followed.phases)} {several} in {epochs}"
        + (f" of {followed.steps_per_epoch} steps" if counted else "")
    )
    console.print(followed.text)
    console.print()
    table = _phases(followed, backbone, with_caches=_has_caches(followed))
    if Measurement.get(console, console.options, table).maximum > width:
        table = _phases(followed, backbone, with_caches=False)  # they are in the JSON
    console.print(table)
    console.print()
    for grid in _grids(followed, backbone, width):
        console.print(grid)
        console.print()
    for line in _notes(followed, backbone):
        console.print(line)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))


def _phases(followed: Followed, backbone: Backbone, *, with_caches: bool) -> Table:
    """Return the table of the phases: when each begins, what it trains, what a step costs."""
    table = _table()
    table.add_column("phase", justify="right")
    table.add_column("begins", justify="right")
    if followed.steps_per_epoch is not None:
        table.add_column("steps", justify="right")
    table.add_column("plan", overflow="fold")
    table.add_column("trained", justify="right")
    has_costs = any(cost.flops is not None for cost in followed.costs)
    if has_costs:
        table.add_column("peak MiB", justify="right")
        table.add_column("GFLOP", justify="right")
    if with_caches:
        table.add_column("cache", justify="right")
    for i, (phase, cost) in enumerate(zip(followed.phases, followed.costs, strict=True), 1):
        cells = [str(i), _begins(phase)]
        if followed.steps_per_epoch is not None:
            cells.append("?" if phase.steps is None else f"{phase.steps:,}")
        cells += [phase.spec or phase.reason or "a plan", _trained(phase, backbone)]
        if has_costs:
            cells += [mib(cost.peak_bytes), _gflop(cost)]
        if with_caches:
            cells.append(size(cost.cache) if cost.cache else MISSING)
        table.add_row(*cells)
    return table


def _has_caches(followed: Followed) -> bool:
    return any(cost.cache and cost.cache.bytes_per_sample for cost in followed.costs)


def _begins(phase: Phase) -> str:
    at = phase.begins
    exact = at.epoch + (at.step_in_epoch / at.steps_per_epoch if at.steps_per_epoch else 0)
    return f"{exact:.4g}ep"


def _trained(phase: Phase, backbone: Backbone) -> str:
    total = sum(parameter.numel for parameter in backbone.parameters.values())
    frozen = sum(backbone.parameters[name].numel for name in phase.plan.frozen)
    return f"{_count(total - frozen)} ({share((total - frozen) / total)})"


def _count(elements: int) -> str:
    """Return a number of elements to three digits; the exact one is in the JSON.

    Example:
        >>> _count(11_689_512), _count(807_400), _count(512)
        ('11.7 M', '807 k', '512')
    """
    if elements >= 999_500:
        return f"{elements / 1e6:.3g} M" if elements < 999.5e6 else f"{elements / 1e9:.3g} G"
    return f"{elements / 1e3:.3g} k" if elements >= 1000 else str(elements)


def _gflop(cost: Cost) -> str:
    return gflop(None if cost.flops is None else cost.flops.forward + cost.flops.backward)


def _grids(followed: Followed, backbone: Backbone, width: int) -> Iterator[Table]:
    """Give tables of stages by phases, each with as many phases as fit into the width."""
    columns = [_column(phase, backbone) for phase in followed.phases]
    names = [summary.name for summary in summarise(backbone, followed.phases[0].plan)]
    of_names = min(max(map(len, names)), width // 3)  # longer ones are folded
    first = 0
    while first < len(columns):
        end, free = first, width - of_names
        while end < min(len(columns), first + IN_A_GRID):
            free -= GAP + max(map(len, columns[end]))
            if free < 0 and end > first:
                break
            end += 1
        table = _table()
        table.add_column("stage", overflow="fold")
        for i in range(first, end):
            table.add_column(str(i + 1), no_wrap=True, justify="center")
        for row in zip(names, *columns[first:end], strict=True):
            table.add_row(*row)
        yield table
        first = end


def _column(phase: Phase, backbone: Backbone) -> list[str]:
    """Return what a phase does to each stage."""
    summaries = summarise(backbone, phase.plan)
    return [_cell(summary, phase.rates.get(summary.name, (1.0, 1.0))) for summary in summaries]


def _cell(summary: StageSummary, rates: tuple[float, float]) -> str:
    """Return what a phase does to a stage: "-", "train" or "part", and multipliers other than 1."""
    if not summary.trainable:
        return "-"
    scales = summary.lr_scales
    if len(scales) == 1:
        first, last = (scales[0] * rate for rate in rates)
    else:
        first, last = scales[0] * min(rates), scales[-1] * max(rates)
    part = "" if summary.trainable == summary.parameters else "part"
    if first == last == 1:
        return part or "train"
    low = f"{first:.3g}"
    high = "~0" if last < first * NOTHING else f"{last:.3g}"
    factor = f"x {low}" if low == high else f"x {low} to {high}"
    return f"{part} {factor}".strip()


def _notes(followed: Followed, backbone: Backbone) -> list[str]:
    cells = (
        "train: all of the stage; part: some of it; -: frozen; x: trained with this multiplier of "
        "the learning rate, or from one at the first step of the phase to another at its last."
    )
    notes = [cells]
    if any(cost.flops is not None for cost in followed.costs):
        notes.append(
            "peak MiB and GFLOP: predicted for one step with a batch of "
            f"{followed.batch_size}, by SGD with momentum; that of what an earlier phase "
            "trained is kept."
        )
    if _has_caches(followed):
        notes.append("cache: what `frozen.cache` keeps of each sample in the phase.")
    notes.append(
        "Under fully_shard, shard each stage on its own: weights of a frozen prefix are then "
        "gathered once a step."
    )
    for problem in dict.fromkeys(cost.problem for cost in followed.costs if cost.problem):
        notes.append(f"no peak and no FLOPs: {problem}")
    if followed.observes:
        notes.append(
            f"The schedule observes {' and '.join(followed.observes)}: the later phases depend on "
            "the training."
        )
    if followed.steps_per_epoch is None:
        notes.append(f"Reckoned with {STEPS} steps per epoch; --steps-per-epoch sets the number.")
    _, unstaged = stages_or_reason(backbone)
    if unstaged:
        notes.append(f"listed by top-level module, not by stage: {unstaged}")
    warned: dict[str, list[int]] = {}
    for i, phase in enumerate(followed.phases, 1):
        for text in phase.plan.warnings:
            warned.setdefault(text, []).append(i)
    for text, phases in warned.items():
        numbers = ", ".join(map(str, phases))
        notes.append(f"warning, phase {numbers}: {text}")
    return notes
