"""Sentences for what surprises in a result, each with the figures behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.report.formatting import change, mib, ratio, share
from freezekit.report.peaks import peak_against_saved, where_the_saving_is
from freezekit.results.derived import (
    baseline,
    flops,
    fraction,
    noise_floor,
    peak_change_from,
    saved_against,
    stock_of,
    trainable_fraction,
)
from freezekit.results.records import FREES_LITTLE

if TYPE_CHECKING:
    from freezekit.results.records import Result, Row

LEAN_PAYS = 0.05  # of full's saved activations, for lean to be worth a mention
FEWER_FLOPS = 0.05  # of full's
FLOPS_GAP = 0.03  # between a ratio of FLOPs and a ratio of times, to speak of it


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
        batch-norm freezes 1.0% of the parameters and frees 0.2% of the saved activations
        (54.0 MiB against 54.1 MiB of full): ...
    """
    full = baseline(result)
    if full is None:
        return ()
    others = [row for row in result.rows if row is not full]
    # What surprises in a strategy is said of its stock row; beside that, lean has its own sentence.
    alone = [row for row in others if stock_of(result, row) is None]
    pairs = [(row, stock) for row in others if (stock := stock_of(result, row))]
    found = [
        *(where_the_saving_is(result, full, row) for row in alone),
        *_frees_no_activations(full, alone),
        *(_trains_the_same(full, row) for row in alone),
        *(peak_against_saved(result, full, row) for row in alone),
        *(_time_against_flops(full, row) for row in alone),
        *(_beside_stock(row, stock) for row, stock in pairs),
        _flops_do_not_predict_time(result, full, others),
    ]
    return tuple(sentence for sentence in found if sentence)


def _frees_no_activations(full: Row, others: list[Row]) -> list[str]:
    before = full.memory.saved_activations_bytes
    reason = (
        ": a layer that trains keeps its input for the gradient of its weights, and a frozen "
        "convolution or norm keeps its own wherever a gradient passes through"
    )
    sentences = []
    for row in others:
        after = row.memory.saved_activations_bytes
        remaining = saved_against(full, row)
        trains = fraction(trainable_fraction(row), trainable_fraction(full))
        if remaining is None or trains is None or trains >= 1 or remaining < 1 - FREES_LITTLE:
            continue
        frees = share(1 - remaining) if remaining < 1 else "none"
        sentence = (
            f"{row.label} freezes {share(1 - trains)} of the parameters and frees {frees} of "
            f"the saved activations ({mib(after)} MiB against {mib(before)} MiB of full)"
        )
        if not row.lean:  # the reason once, however many strategies it holds for
            sentence += reason
            reason = ""
        sentences.append(sentence + _outlook(full, row))
    return sentences


def _outlook(full: Row, row: Row) -> str:
    """Return what lean would bring, "" where that is not known or next to nothing."""
    if row.with_lean is None:
        return ""
    left, before = row.with_lean.saved_activations_bytes, full.memory.saved_activations_bytes
    of_full, remaining = fraction(left, before), saved_against(full, row)
    if of_full is None or remaining is None or remaining - of_full < LEAN_PAYS:
        return ""
    return (
        f"; --lean on would bring them to {mib(left)} MiB, {share(of_full)} of full's (predicted)"
    )


def _trains_the_same(full: Row, row: Row) -> str | None:
    before, after = full.memory.saved_activations_bytes, row.memory.saved_activations_bytes
    remaining = saved_against(full, row)
    if row.lean or row.parameters is None or full.parameters is None or remaining is None:
        return None
    same = row.parameters.trainable_digest == full.parameters.trainable_digest
    if not same or abs(remaining - 1) > FREES_LITTLE:
        return None
    return (
        f"{row.label} trains every parameter that full trains, so it frees no activations: "
        f"{mib(after)} MiB are saved, {mib(before)} MiB by full"
    )


def _time_against_flops(full: Row, row: Row) -> str | None:
    work, time = fraction(flops(row), flops(full)), row.time
    if work is None or time is None or time.ratio is None:
        return None
    measured = ratio(time.ratio, time.ratio_ci, time.verdict)
    if time.verdict == "no difference shown" and work < 1 - FEWER_FLOPS:
        return (
            f"{row.label} does {work:.2f} of full's FLOPs, yet no difference in time is shown: "
            f"{measured}"
        )
    if time.verdict == "slower" and work <= 1:
        return f"{row.label} is slower, {measured}, with {work:.2f} of full's FLOPs"
    return None


def _beside_stock(row: Row, stock: Row) -> str | None:
    """Tell what lean saves and what it costs, much or nothing."""
    found = []
    after, before = row.memory.saved_activations_bytes, stock.memory.saved_activations_bytes
    if after is not None and before is not None:
        less = f"where stock keeps {mib(before)} MiB ({share(fraction(after, before))})"
        than_stock = "as stock does" if after == before else less
        found.append(f"keeps {mib(after)} MiB of saved activations {than_stock}")
    fell = peak_change_from(stock, row)
    if fell is not None:
        less = f"instead of {mib(stock.memory.peak_bytes)} MiB ({change(fell)})"
        than_stock = "like stock" if fell == 0 else less
        found.append(f"peaks at {mib(row.memory.peak_bytes)} MiB {than_stock}")
    if row.time is not None and row.time.ratio_to_stock is not None:
        times = ratio(row.time.ratio_to_stock, row.time.ratio_to_stock_ci)
        found.append(f"takes {times} of the step time of stock")
    if not found:
        return None
    *first, last = found
    return f"{row.label} {', '.join(first)}{' and ' if first else ''}{last}"


def _flops_do_not_predict_time(result: Result, full: Row, others: list[Row]) -> str | None:
    """Name the widest gap between work and time that is more than noise."""
    floor = noise_floor(result)
    if floor is None:
        return None
    pairs = [
        (row.label, fraction(flops(row), flops(full)), row.time.ratio, row.time.ratio_ci)
        for row in others
        if row.time is not None and row.time.verdict in ("faster", "slower")
    ]
    gaps = [
        (name, work, time)
        for name, work, time, interval in pairs
        if work is not None and time and interval and not interval[0] <= work <= interval[1]
    ]
    if not gaps:
        return None
    name, work, time = max(gaps, key=lambda gap: abs(gap[1] - gap[2]))
    if abs(work - time) < max(FLOPS_GAP, floor):
        return None
    return (
        f"FLOPs do not predict time: {name} does {work:.2f} of full's FLOPs in {time:.2f} of its "
        "time"
    )
