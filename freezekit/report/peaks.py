"""What a peak is made of, and what lowers it: as figures, and as sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezekit.report.formatting import mib
from freezekit.report.phrasing import listed, percent, percent_change
from freezekit.results.derived import peak_change, saved_against
from freezekit.results.records import FREES_LITTLE

if TYPE_CHECKING:
    from freezekit.results.records import Memory, Result, Row

MUCH_OF_PEAK = 0.05  # for what lives for a moment to be worth a sentence


@dataclass(frozen=True)
class Gap:
    """A peak that falls less than the saved activations do.

    Attributes:
        label: Of the row.
        freed: Of the saved activations of `full`, the fraction that the row frees.
        change: Of the peak against that of `full`, as a fraction.
        peak_bytes: Of the row.
        constant_bytes: Parameters, buffers and inputs; always there.
        training_bytes: Gradients and optimizer state.
        saved_bytes: Activations that are saved from forward to backward.
        short_lived_bytes: At least so much of the peak lives for a moment; may be negative, for
            gradients and activations are never all there at once.
        workspace_bytes: Of it, where it was measured, else 0.
    """

    label: str
    freed: float
    change: float
    peak_bytes: int
    constant_bytes: int
    training_bytes: int
    saved_bytes: int
    short_lived_bytes: int
    workspace_bytes: int

    @property
    def is_short_lived(self) -> bool:
        """Whether most of the peak lives for a moment."""
        most = max(self.saved_bytes, self.training_bytes, MUCH_OF_PEAK * self.peak_bytes)
        return self.short_lived_bytes > most


def peak_gap(result: Result, full: Row, row: Row) -> Gap | None:
    """Return by how much less the peak falls than saved activations do, None where it follows."""
    memory, remaining, fell = row.memory, saved_against(full, row), peak_change(result, row)
    constant = _sum(memory.parameters_bytes, memory.buffers_bytes, memory.inputs_bytes)
    training = _sum(memory.gradients_bytes, memory.optimizer_bytes)
    peak, saved = memory.peak_bytes, memory.saved_activations_bytes
    if constant is None or training is None or peak is None or saved is None:
        return None
    if remaining is None or fell is None:
        return None
    workspace = memory.workspace_bytes if memory.peak_method == "measured" else None
    gap = Gap(
        row.label,
        1 - remaining,
        fell,
        peak,
        constant,
        training,
        saved,
        peak - constant - training - saved,
        max(0, workspace or 0),
    )
    if gap.freed < FREES_LITTLE or not (gap.is_short_lived or -fell < gap.freed / 2):
        return None
    return gap


def gap_in_full(gap: Gap) -> str:
    """Return what a peak that falls little is made of, as a sentence.

    Example:
        >>> mib = 2**20
        >>> print(gap_in_full(Gap("a", 0.5, -0.1, 90 * mib, 30 * mib, 40 * mib, 20 * mib, 0, 0)))
        a frees 50.0 % of the saved activations but 10.0 % of the peak: of its 90.0 MiB, parameters,
        buffers and inputs take 30.0 MiB, gradients and optimizer state up to 40.0 MiB
    """
    lead = f"{gap.label} {_frees(gap)}"
    if gap.is_short_lived:
        workspace = f" ({mib(gap.workspace_bytes)} MiB of it workspace)"
        return (
            f"{lead}: {mib(gap.saved_bytes)} MiB are saved from forward to backward; at least "
            f"{mib(gap.short_lived_bytes)} MiB of the {mib(gap.peak_bytes)} MiB live for a moment "
            f"within one of them{workspace if gap.workspace_bytes else ''}"
        )
    moment = f", what lives for a moment at least {mib(gap.short_lived_bytes)} MiB"
    return (
        f"{lead}: of its {mib(gap.peak_bytes)} MiB, parameters, buffers and inputs take "
        f"{mib(gap.constant_bytes)} MiB, gradients and optimizer state up to "
        f"{mib(gap.training_bytes)} MiB{moment if gap.short_lived_bytes > 0 else ''}"
    )


def gap_in_short(gap: Gap) -> str:
    """Return the same with the largest part alone."""
    peak = mib(gap.peak_bytes)
    if gap.is_short_lived:
        why = f"tensors that live for a moment take at least {mib(gap.short_lived_bytes)}"
    elif gap.training_bytes >= gap.constant_bytes:
        why = f"gradients and optimizer state take up to {mib(gap.training_bytes)}"
    else:
        why = f"parameters, buffers and inputs take {mib(gap.constant_bytes)}"
    return f"{gap.label} {_frees(gap)}: {why} of its {peak} MiB"


def _frees(gap: Gap) -> str:
    of_peak = f"{percent(-gap.change)} of the peak"
    if gap.change >= 0:
        of_peak = f"nothing of the peak ({percent_change(gap.change)})"
    return f"frees {percent(gap.freed)} of the saved activations but {of_peak}"


def where_the_saving_is(result: Result, full: Row, row: Row) -> str | None:
    """Divide what a row peaks below `full` among gradients, optimizer state, activations."""
    before, after, fell = full.memory.peak_bytes, row.memory.peak_bytes, peak_change(result, row)
    if before is None or after is None or fell is None or -fell < FREES_LITTLE:
        return None
    lead = f"{row.label} peaks {mib(before - after)} MiB below `full`"
    then, now = _at_peak(full.memory), _at_peak(row.memory)
    if then and now:
        return f"{lead}: {_differences(then, now)}"
    then, now = _over_the_step(full.memory), _over_the_step(row.memory)
    if then and now and then != now:
        return (
            f"{lead}; in total it takes {_differences(then, now)}; these need not all "
            "be alive at the peak"
        )
    return None


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
    return {**known, "everything else": (memory.peak_bytes or 0) - sum(known.values())}


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
    return listed(
        [f"{mib(abs(less))} MiB {'less' if less > 0 else 'more'} of {name}" for name, less in found]
    )


def _sum(*counts: int | None) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
