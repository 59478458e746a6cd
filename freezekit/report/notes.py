"""What stands under the table: failures, noise floor, explanations, warnings, methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from freezekit.report.cells import FAILED
from freezekit.report.explain import explain
from freezekit.report.formatting import band, plain, share
from freezekit.results.derived import flops, mixed_peaks, noise_floor

if TYPE_CHECKING:
    from freezekit.results.records import Result, Row


@dataclass(frozen=True)
class Note:
    """One note; `kind` says how much it matters."""

    kind: Literal["interrupted", "failed", "warning", "note"]
    text: str


def notes(result: Result) -> tuple[Note, ...]:
    """Return all notes in the order of reading.

    Example:
        >>> from freezekit.results.records import Result, Row, Workload
        >>> row = Row("head-only", status="oom", error="killed, signal 9")
        >>> result = Result("0.1.0", Workload("timm:resnet18"), {}, (row,), complete=True)
        >>> [note.text for note in notes(result)]
        ['head-only: out of memory: killed, signal 9']
    """
    found = [
        *_interrupted(result),
        *(Note("failed", _failure(row)) for row in result.rows if row.status != "ok"),
        *(Note("note", text) for text in (*_timing(result), *explain(result))),
        *_warnings(result),
        *(Note("note", text) for text in (*result.notes, *_methods(result))),
    ]
    return tuple(Note(note.kind, plain(note.text)) for note in found)


def _interrupted(result: Result) -> list[Note]:
    if result.complete:
        return []
    counted = sum(row.memory.peak_bytes is not None for row in result.rows)
    timed = sum(row.time is not None for row in result.rows)
    text = (
        f"interrupted: the run did not come to its end; of {len(result.rows)} rows, "
        f"{counted} have memory figures and {timed} step times; '-' was not measured"
    )
    return [Note("interrupted", text)]


def _failure(row: Row) -> str:
    plugin = ""
    if row.status == "error" and row.plugin:
        plugin = f" (plugin {row.plugin.name}, {row.plugin.distribution} {row.plugin.version})"
    return f"{row.label}: {FAILED[row.status]}{plugin}: {row.error or 'no reason was given'}"


def _timing(result: Result) -> list[str]:
    if all(row.time is None for row in result.rows):
        return []
    control, floor = result.control, noise_floor(result)
    texts = []
    if control is None:
        texts.append("noise floor unknown: no second copy of full was timed")
    elif control.ratio_ci is None or floor is None:
        texts.append(
            f"noise floor unknown: identical code came apart by {share(abs(control.ratio - 1))} "
            "in the one block that was timed"
        )
    else:
        low, high = (f"{end - 1:+.1%}" for end in control.ratio_ci)
        texts.append(
            f"noise floor: identical code came apart by {share(abs(control.ratio - 1))} "
            f"[{low}, {high}]; no ratio between {band(floor)} is shown as a difference"
        )
    cut = (result.timing_design or {}).get("cut")
    if cut:
        texts.append(f"the time budget cut the timing: {cut}")
    return texts


def _warnings(result: Result) -> list[Note]:
    """Return each warning once, with the rows that it holds for."""
    rows: dict[str, list[str]] = {}
    for row in result.rows:
        for warning in dict.fromkeys(row.warnings):
            rows.setdefault(warning, []).append(row.label)
    return [Note("warning", f"{', '.join(names)}: {text}") for text, names in rows.items()]


def _methods(result: Result) -> list[str]:
    texts = []
    predicted = [row.label for row in result.rows if row.memory.peak_method == "predicted"]
    if mixed_peaks(result):
        texts.append(
            "peak: measured in a real step, workspace included; predicted (~), without workspace, "
            f"for {', '.join(predicted)}; the two are not compared"
        )
    elif predicted:
        texts.append("peak: predicted under fake tensors, workspace not included")
    elif any(row.memory.peak_method == "measured" for row in result.rows):
        texts.append("peak: measured in a real step, workspace included")
    if any(row.memory.saved_activations_bytes is not None for row in result.rows):
        texts.append("saved: activations kept from forward to backward, counted as the peak is")
    if any(row.lean for row in result.rows):
        texts.append(
            "[lean]: frozen with lean=True; autograd keeps only what gradients need, and gradients "
            "are the same to the last bit"
        )
    if any(flops(row) is not None for row in result.rows):
        texts.append("GFLOP: forward and backward, counted and not timed")
    if result.workload.loss_text:
        texts.append(f"loss: {result.workload.loss_text}")
    return texts
