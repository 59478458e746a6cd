"""What is said of what fits, under its table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.bench.environment import differing
from freezekit.fit.margin import UNCHECKED_MARGIN
from freezekit.report.formatting import mib, number
from freezekit.report.note_records import Note, Notes, note, note_of_rows, rows_by_text
from freezekit.report.phrasing import listed
from freezekit.results.sizes import size_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.fit.records import Fit, FitRow, WorkspaceCheck
    from freezekit.results.records import Result

_FITS = "which fits"
_FITTED_AFTER_ALL = f"{_FITS}, though by prediction and margin it does not"


def fit_notes(fit: Fit, timing: Sequence[Result]) -> Notes:
    """Return everything that is said of what fits, in the order of reading."""
    failed = [(row.label, str(row.error)) for row in fit.rows if row.status != "ok"]
    verified = [said for row in fit.rows if (said := _verified(fit, row))]
    surprising = [said for said in verified if _FITS in said.text]
    speeds = _timed(fit, timing)
    found = [
        *(note_of_rows("failed", rows, text) for text, rows in rows_by_text(failed).items()),
        *(said for said in verified if said.kind == "failed"),
        *(note("warning", text) for text in _not_even_one(fit)),
        *(note("finding", text) for text in _with_budget(fit)),
        *(said for said in speeds if said.kind == "warning"),
        note("precision", _method(fit)),
        *(said for said in speeds if said.kind == "precision"),
        *surprising,
        *(note("finding", text) for text in _caches(fit)),
        *(note("finding", text) for text in _no_larger_tried(fit)),
        *(said for said in verified if said.kind == "finding" and said not in surprising),
        *(note("definition", text) for text in _meanings(fit)),
    ]
    return Notes(tuple(found), "-o FILE.md")


def _timed(fit: Fit, timing: Sequence[Result]) -> list[Note]:
    """Say of the speeds shown at what batch they were measured; warn where it was elsewhere."""
    last = {row.label: run for run in timing for row in run.rows if row.time}
    said = []
    for row in fit.rows:
        if row.label in last:
            run = last[row.label]
            elsewhere = ", ".join(differing(run.env, fit.env))
            text = f"as measured at batch {run.workload.batch_size}; another batch may differ"
            text += f"; measured with another {elsewhere}" if elsewhere else ""
            said.append((row.label, text))
    found = rows_by_text(said)
    return [
        note(
            "warning" if "; measured with" in text else "precision",
            f"images/s{f' of {listed(rows)}' if len(found) > 1 else ''}: {text}",
        )
        for text, rows in found.items()
    ]


def _not_even_one(fit: Fit) -> list[str]:
    return [
        f"{row.label}: not even the smallest batch fits: a step takes "
        f"{mib(row.memory.peak_bytes)} MiB; give more --memory, a smaller --image-size, or another "
        "strategy"
        for row in fit.rows
        if row.batch_size == 0
    ]


def _with_budget(fit: Fit) -> list[str]:
    """Say with what budget a batch fits that does not fit as it is."""
    return [
        f"{row.label}: batch {row.batch_size or 1} does not fit; with --lean "
        f"{row.within_budget.lean} it fits at +{row.within_budget.more_flops:.0%} FLOPs"
        for row in fit.rows
        if row.within_budget is not None
    ]


def _caches(fit: Fit) -> list[str]:
    """Say how large the caches are."""
    found = []
    for row in fit.rows:
        if row.cache_bytes_per_sample is not None:
            text = f"{row.label}: {size_text(row.cache_bytes_per_sample)} a sample"
            if fit.samples:
                total = size_text(fit.samples * row.cache_bytes_per_sample)
                text += f", {total} for {fit.samples:,} samples"
            found.append(text)
    return found


def _no_larger_tried(fit: Fit) -> list[str]:
    if fit.asked_batch_size:
        return []
    return [
        f"{row.label}: {row.batch_size} images fit; no larger batch was predicted"
        for row in fit.rows
        if row.batch_size and row.next_peak_bytes is None
    ]


def _verified(fit: Fit, row: FitRow) -> Note | None:
    """Say what real steps took, and how that agrees with what was predicted."""
    held, peak = fit.held(row), row.measured_peak_bytes
    if held is None or not peak or not row.batch_size or not row.memory.peak_bytes:
        return None
    text = f"{row.label}: a real step of batch {row.batch_size} took {mib(peak)} MiB"
    fits = fit.fits(row)
    if not held and fits:
        above = 100 * (peak / row.memory.peak_bytes - 1)
        return note("failed", f"{text}, more than there is; try --margin {above + 0.1:.1f}")
    if not fits and held:
        return note("finding", f"{text}, {_FITTED_AFTER_ALL}")
    if not fits:
        return note("finding", f"{text}, too much, as predicted")
    if row.search_seconds is not None:
        tried = "1 batch was" if row.tried == 1 else f"{row.tried} batches were"
        text += f" ({tried} compiled and run in {number(row.search_seconds)} s)"
    after = row.measured_next_peak_bytes
    if after is None:
        return note("finding", text)
    text += f"; batch {row.batch_size + 1} {mib(after)} MiB"
    if after > fit.memory_bytes:
        return note("finding", f"{text}, too much")
    said = f"{_FITS} too" if row.next_peak_bytes is None else _FITTED_AFTER_ALL
    return note("finding", f"{text}, {said}")


def _method(fit: Fit) -> str:
    """Say what the answer rests on."""
    found = f"peaks are predicted; {100 * fit.margin:g} % of the peak is left free for the rest"
    if any(row.compiled for row in fit.rows):
        found = f"eager {found}; those of compiled rows are of real steps, with nothing left free"
    if fit.workspace_check and not fit.workspace_check.holds:
        found += f"; {_unlike_the_rules(fit, fit.workspace_check)}"
    answered = [row for row in fit.rows if row.status == "ok" and row.batch_size]
    answered = [row for row in answered if not row.compiled]
    if answered and all(row.measured_peak_bytes is None for row in answered):
        found += "; --verify runs real steps"
    return found


def _unlike_the_rules(fit: Fit, check: WorkspaceCheck) -> str:
    where = f"torch {fit.env.get('torch', '')} on {check.cpu_capability}"
    more = "more" if check.largest_error > 0 else "less"
    so = ", so a larger margin is left" if fit.margin == UNCHECKED_MARGIN else ""
    return (
        f"predictions are less exact here{so}: {len(check.differing)} of {check.operators} "
        f"operators that were run with {where} held other memory than the rules say, up to "
        f"{abs(check.largest_error):.0%} {more}"
    )


def _meanings(fit: Fit) -> list[str]:
    workspace = (
        "what convolutions take for a moment is counted"
        if fit.workload.device == "cpu"
        else "the allocator's workspace is not counted"
    )
    found = [f"peak: of one step, predicted under fake tensors; {workspace}"]
    if any(row.compiled for row in fit.rows):
        found[0] += "; of compiled rows measured in a real step"
    answered = [row for row in fit.rows if row.status == "ok" and row.batch_size]
    if any(row.next_peak_bytes for row in answered):
        found.append(
            "batch: by prediction the batch shown fits and the next, larger by one image, does not"
        )
    if any(row.batch_size == 0 for row in fit.rows):
        found.append("batch 0: no batch fits, and the peak is that of the smallest")
    if any(row.memory.peak_bytes for row in fit.rows):
        found.append(
            "largest part of the peak: not all parts need be alive at the peak; moments are "
            "tensors that live within forward or backward only"
        )
    return found
