"""What each strategy saves and why, row by row, each sentence with the figures behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.report.compiling import compiled_pairs
from freezekit.report.filling import filling_notes
from freezekit.report.formatting import mib, number, ratio
from freezekit.report.peaks import gap_in_full, peak_gap, where_the_saving_is
from freezekit.report.phrasing import listed, percent, percent_change
from freezekit.report.surprises import (
    alone,
    frees_little,
    lean_outlook,
    lean_pairs,
    trains_the_same,
    widest_gap,
    work_without_time,
)
from freezekit.results.derived import (
    baseline,
    flops,
    fraction,
    peak_change_from,
    saved_against,
    trainable_fraction,
)

if TYPE_CHECKING:
    from freezekit.results.records import Result, Row

WHY_LAYERS_KEEP_INPUTS = (
    ": a layer that trains keeps its input for the gradient of its weights; a frozen convolution "
    "or norm keeps its input too, wherever a gradient passes through it"
)


def explain(result: Result) -> tuple[str, ...]:
    """Return what each strategy's saving is made of, what surprises in it, and what lean adds.

    Example:
        >>> from freezekit.results.records import Memory, Parameters, Result, Row, Workload
        >>> rows = (
        ...     Row("full", parameters=Parameters(100, 100, "a"),
        ...         memory=Memory(saved_activations_bytes=56_700_000)),
        ...     Row("batch-norm", parameters=Parameters(100, 99, "b"),
        ...         memory=Memory(saved_activations_bytes=56_600_000)),
        ... )
        >>> print(*explain(Result("0.1.0", Workload("timm:resnet18"), {}, rows)))
        batch-norm freezes 1.0 % of the parameters and frees 0.2 % of the saved activations
        (54.0 MiB against 54.1 MiB of `full`): ...
    """
    full = baseline(result)
    if full is None:
        return ()
    # What surprises in a strategy is said of its stock and eager row. Beside that, lean and
    # compiled rows have sentences of their own.
    rows = alone(result, full)
    gaps = [gap for row in rows if (gap := peak_gap(result, full, row))]
    found = [
        *(where_the_saving_is(result, full, row) for row in rows),
        *_frees_no_activations(full, [row for row in rows if frees_little(full, row)]),
        *(_trains_the_same(full, row) for row in rows if trains_the_same(full, row)),
        *map(gap_in_full, gaps),
        *(_time_against_flops(full, row) for row in rows),
        *filling_notes(result),
        *(_beside_stock(row, stock) for row, stock in lean_pairs(result)),
        *(_beside_eager(row, eager) for row, eager in compiled_pairs(result)),
        flops_do_not_predict_time(result, full),
    ]
    return tuple(sentence for sentence in found if sentence)


def _frees_no_activations(full: Row, rows: list[Row]) -> list[str]:
    reason = WHY_LAYERS_KEEP_INPUTS
    sentences = []
    for row in rows:
        trains = fraction(trainable_fraction(row), trainable_fraction(full)) or 0
        remaining = saved_against(full, row) or 0
        frees = percent(1 - remaining) if remaining < 1 else "none"
        sentence = (
            f"{row.label} freezes {percent(1 - trains)} of the parameters and frees {frees} of the "
            f"saved activations ({mib(row.memory.saved_activations_bytes)} MiB against "
            f"{mib(full.memory.saved_activations_bytes)} MiB of `full`)"
        )
        if not row.lean:  # the reason once, however many strategies it holds for
            sentence += reason
            reason = ""
        sentences.append(sentence + _outlook(full, row))
    return sentences


def _outlook(full: Row, row: Row) -> str:
    """Return what lean would bring, "" where that is not known or next to nothing."""
    outlook = lean_outlook(full, row)
    if outlook is None:
        return ""
    left = outlook.saved_activations_bytes
    of_full = percent(fraction(left, full.memory.saved_activations_bytes))
    return f"; --lean on would bring them to {mib(left)} MiB, {of_full} of `full` (predicted)"


def _trains_the_same(full: Row, row: Row) -> str:
    return (
        f"{row.label} trains every parameter that `full` trains, so it frees no activations: "
        f"{mib(row.memory.saved_activations_bytes)} MiB are saved, "
        f"{mib(full.memory.saved_activations_bytes)} MiB by `full`"
    )


def _time_against_flops(full: Row, row: Row) -> str | None:
    work, time = fraction(flops(row), flops(full)), row.time
    if work is None or time is None or time.ratio is None:
        return None
    measured = ratio(time.ratio, time.ratio_ci, time.verdict)
    if work_without_time(full, row) is not None:
        return (
            f"{row.label} does {work:.2f} of the FLOPs of `full`, but no difference in time is "
            f"shown: the ratio is {measured}"
        )
    if time.verdict == "slower" and work <= 1:
        return (
            f"{row.label} is slower than `full`, though it does {work:.2f} of its FLOPs: the ratio "
            f"is {measured}"
        )
    return None


def _beside_stock(row: Row, stock: Row) -> str | None:
    """Tell what lean saves and what it costs, much or nothing."""
    found = _memory_beside("stock", row, stock)
    if row.time is not None and row.time.ratio_to_stock is not None:
        times = ratio(row.time.ratio_to_stock, row.time.ratio_to_stock_ci)
        found.append(f"takes {times} of the step time of stock")
    return f"{row.label} {listed(found)}" if found else None


def _beside_eager(row: Row, eager: Row) -> str | None:
    """Tell what `torch.compile` saves, and what it costs once and in each step."""
    found = _memory_beside("eager", row, eager)
    cost = row.compilation
    if cost is not None and cost.ratio_to_eager is not None:
        times = ratio(cost.ratio_to_eager, cost.ratio_to_eager_ci, cost.verdict)
        found.append(f"takes {times} of the step time of eager")
    if cost is not None:
        found.append(f"took {number(cost.compile_seconds)} s to compile")
    return f"{row.label} {listed(found)}" if found else None


def _memory_beside(name: str, row: Row, other: Row) -> list[str]:
    """Tell what a row saves and peaks at, against the row of this name."""
    found = []
    after, before = row.memory.saved_activations_bytes, other.memory.saved_activations_bytes
    if after is not None and before is not None:
        less = f"where {name} keeps {mib(before)} MiB ({percent(fraction(after, before))})"
        than_other = f"as {name} does" if after == before else less
        found.append(f"keeps {mib(after)} MiB of saved activations {than_other}")
    fell = peak_change_from(other, row)
    if fell is not None:
        less = f"instead of {mib(other.memory.peak_bytes)} MiB ({percent_change(fell)})"
        than_other = f"like {name}" if fell == 0 else less
        found.append(f"peaks at {mib(row.memory.peak_bytes)} MiB {than_other}")
    return found


def flops_do_not_predict_time(result: Result, full: Row) -> str | None:
    """Name the widest gap between work and time that is more than noise."""
    gap = widest_gap(result, full)
    if gap is None:
        return None
    label, work, time = gap
    return (
        f"FLOPs do not predict time: {label} does {work:.2f} of the FLOPs of `full` in {time:.2f} "
        "of its time"
    )
