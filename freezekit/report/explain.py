"""Sentences for what surprises in a result, each with the figures behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.report.figures import baseline, flops, fraction, peak_change, trainable_fraction
from freezekit.report.units import change, mib, ratio, share

if TYPE_CHECKING:
    from freezekit.bench.results import Result, Row

FREES_LITTLE = 0.03  # of full's saved activations
FEWER_FLOPS = 0.05  # of full's
FLOPS_GAP = 0.03  # between a ratio of FLOPs and a ratio of times, to speak of it


def explain(result: Result) -> tuple[str, ...]:
    """Return one sentence for each surprise in a result, none where nothing surprises.

    Example:
        >>> from freezekit.bench.results import Memory, Parameters, Result, Row, Workload
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
    found = [
        *_frees_no_activations(full, others),
        *(_trains_the_same(full, row) for row in others),
        *(_short_lived_peak(result, full, row) for row in others),
        *(_time_against_flops(full, row) for row in others),
        _flops_do_not_predict_time(full, others),
    ]
    return tuple(sentence for sentence in found if sentence)


def _frees_no_activations(full: Row, others: list[Row]) -> list[str]:
    before = full.memory.saved_activations_bytes
    sentences = []
    for row in others:
        after = row.memory.saved_activations_bytes
        freed = fraction(None if after is None or before is None else before - after, before)
        trains = fraction(trainable_fraction(row), trainable_fraction(full))
        if freed is None or freed > FREES_LITTLE or trains is None or trains >= 1:
            continue
        frees = share(freed) if freed > 0 else "none"
        sentences.append(
            f"{row.strategy} freezes {share(1 - trains)} of the parameters and frees {frees} of "
            f"the saved activations ({mib(after)} MiB against {mib(before)} MiB of full)"
        )
    if sentences:  # the reason once, however many strategies it holds for
        sentences[0] += (
            ": a layer that trains keeps its input for the gradient of its weights, and a frozen "
            "convolution or norm keeps its own wherever a gradient passes through"
        )
    return sentences


def _trains_the_same(full: Row, row: Row) -> str | None:
    before, after = full.memory.saved_activations_bytes, row.memory.saved_activations_bytes
    if row.parameters is None or full.parameters is None or not before or after is None:
        return None
    same = row.parameters.trainable_digest == full.parameters.trainable_digest
    if not same or abs(after / before - 1) > FREES_LITTLE:
        return None
    return (
        f"{row.strategy} trains every parameter that full trains, so it frees no activations: "
        f"{mib(after)} MiB are saved, {mib(before)} MiB by full"
    )


def _short_lived_peak(result: Result, full: Row, row: Row) -> str | None:
    """Tell where what lives for a moment makes up more of the peak than saved activations do."""
    memory, saved = row.memory, row.memory.saved_activations_bytes
    held = (
        memory.parameters_bytes,
        memory.buffers_bytes,
        memory.inputs_bytes,
        memory.optimizer_bytes,
        memory.gradients_bytes,
        saved,
    )
    known = [part for part in held if part is not None]
    if memory.peak_bytes is None or saved is None or len(known) < len(held):
        return None
    # Gradients and activations are never all there at once, so this errs on the careful side.
    short_lived = memory.peak_bytes - sum(known)
    remaining = fraction(saved, full.memory.saved_activations_bytes)
    peak = peak_change(result, row)
    if short_lived <= saved or remaining is None or remaining >= 1 or peak is None:
        return None
    freed = f"{share(-peak)} of the peak" if peak < 0 else f"nothing of the peak ({change(peak)})"
    workspace = ""
    if memory.peak_method == "measured" and (memory.workspace_bytes or 0) > 0:
        workspace = f" ({mib(memory.workspace_bytes)} MiB of it workspace)"
    return (
        f"{row.strategy} frees {share(1 - remaining)} of the saved activations but {freed}: "
        f"{mib(short_lived)} MiB of its peak live for a moment within forward or backward"
        f"{workspace}, {mib(saved)} MiB are saved between the two"
    )


def _time_against_flops(full: Row, row: Row) -> str | None:
    work, time = fraction(flops(row), flops(full)), row.time
    if work is None or time is None or time.ratio is None:
        return None
    measured = ratio(time.ratio, time.ratio_ci, time.verdict)
    if time.verdict == "no difference shown" and work < 1 - FEWER_FLOPS:
        return (
            f"{row.strategy} does {work:.2f} of full's FLOPs, yet no difference in time is shown: "
            f"{measured}"
        )
    if time.verdict == "slower" and work <= 1:
        return f"{row.strategy} is slower, {measured}, with {work:.2f} of full's FLOPs"
    return None


def _flops_do_not_predict_time(full: Row, others: list[Row]) -> str | None:
    pairs = [
        (row.strategy, fraction(flops(row), flops(full)), row.time.ratio)
        for row in others
        if row.time is not None
    ]
    gaps = [(name, work, time) for name, work, time in pairs if work is not None and time]
    if not gaps:
        return None
    name, work, time = max(gaps, key=lambda gap: abs(gap[1] - gap[2]))
    if abs(work - time) < FLOPS_GAP:
        return None
    return (
        f"FLOPs do not predict time: {name} does {work:.2f} of full's FLOPs in {time:.2f} of its "
        "time"
    )
