"""Sentences on what a peak is made of, and what lowers it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezekit.report.formatting import change, mib, share
from freezekit.results.derived import peak_change, saved_against
from freezekit.results.records import FREES_LITTLE

if TYPE_CHECKING:
    from freezekit.results.records import Memory, Result, Row

MUCH_OF_PEAK = 0.05  # for what lives for a moment to be worth a sentence


def where_the_saving_is(result: Result, full: Row, row: Row) -> str | None:
    """Divide what a row peaks below `full` among gradients, optimizer state, activations."""
    before, after, fell = full.memory.peak_bytes, row.memory.peak_bytes, peak_change(result, row)
    if before is None or after is None or fell is None or -fell < FREES_LITTLE:
        return None
    lead = f"{row.label} peaks {mib(before - after)} MiB below full"
    then, now = _at_peak(full.memory), _at_peak(row.memory)
    if then and now:
        return f"{lead}: {_differences(then, now)}"
    then, now = _over_the_step(full.memory), _over_the_step(row.memory)
    if then and now and then != now:
        return (
            f"{lead}; in all it takes {_differences(then, now)}, which need not all be alive at "
            "the peak"
        )
    return None


def peak_against_saved(result: Result, full: Row, row: Row) -> str | None:
    """Tell where the peak falls less than saved activations do, and what it is made of."""
    parts, remaining = _parts(row.memory), saved_against(full, row)
    peak, fell = row.memory.peak_bytes, peak_change(result, row)
    if parts is None or peak is None or fell is None or remaining is None:
        return None
    freed = 1 - remaining
    if freed < FREES_LITTLE:
        return None
    frees = f"frees {share(freed)} of the saved activations but "
    frees += f"{share(-fell)} of the peak" if fell < 0 else f"nothing of the peak ({change(fell)})"
    # Gradients and activations are never all there at once, so this errs on the careful side.
    short_lived = peak - parts.constant - parts.training - parts.saved
    if short_lived > max(parts.saved, parts.training, MUCH_OF_PEAK * peak):
        workspace = ""
        if row.memory.peak_method == "measured" and (row.memory.workspace_bytes or 0) > 0:
            workspace = f" ({mib(row.memory.workspace_bytes)} MiB of it workspace)"
        return (
            f"{row.label} {frees}: {mib(parts.saved)} MiB are saved from forward to backward, "
            f"at least {mib(short_lived)} MiB of the {mib(peak)} MiB live for a moment within "
            f"one of them{workspace}"
        )
    if -fell >= freed / 2:
        return None
    text = (
        f"{row.label} {frees}: of its {mib(peak)} MiB, parameters, buffers and inputs take "
        f"{mib(parts.constant)} MiB, gradients and optimizer state up to {mib(parts.training)} MiB"
    )
    if short_lived > 0:
        text += f", and what lives for a moment at least {mib(short_lived)} MiB"
    return text


def _at_peak(memory: Memory) -> dict[str, int] | None:
    """Divide a peak into parts that add up to it; None where the file does not tell them."""
    gradients, saved = memory.gradients_at_peak_bytes, memory.saved_at_peak_bytes
    if gradients is None or saved is None or memory.optimizer_bytes is None:
        return None
    known = {
        "gradients": gradients,
        "optimizer state": memory.optimizer_bytes,
        "saved activations": saved,
    }
    return {**known, "all else": (memory.peak_bytes or 0) - sum(known.values())}


def _over_the_step(memory: Memory) -> dict[str, int] | None:
    """Return the same parts in full, whenever they are alive; None where one is missing."""
    found = {
        "gradients": memory.gradients_bytes,
        "optimizer state": memory.optimizer_bytes,
        "saved activations": memory.saved_activations_bytes,
    }
    known = {name: count for name, count in found.items() if count is not None}
    return known if len(known) == len(found) else None


def _differences(before: dict[str, int], after: dict[str, int]) -> str:
    found = [(name, before[name] - after[name]) for name in before if before[name] != after[name]]
    *first, last = [
        f"{mib(abs(less))} MiB {'less' if less > 0 else 'more'} of {name}" for name, less in found
    ]
    return f"{', '.join(first)}{' and ' if first else ''}{last}"


@dataclass(frozen=True)
class _Parts:
    """Bytes of a peak: what is always there, what training adds, what forward saves."""

    constant: int
    training: int
    saved: int


def _parts(memory: Memory) -> _Parts | None:
    constant = _sum(memory.parameters_bytes, memory.buffers_bytes, memory.inputs_bytes)
    training = _sum(memory.gradients_bytes, memory.optimizer_bytes)
    saved = memory.saved_activations_bytes
    if constant is None or training is None or saved is None:
        return None
    return _Parts(constant, training, saved)


def _sum(*counts: int | None) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
