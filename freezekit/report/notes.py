"""What is said of a result under its table, in the order of reading."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.report.cells import FAILED
from freezekit.report.definitions import definitions
from freezekit.report.explain import explain
from freezekit.report.findings import findings
from freezekit.report.formatting import band
from freezekit.report.note_records import Note, Notes, note, note_of_rows, rows_by_text
from freezekit.report.phrasing import percent
from freezekit.results.derived import noise_floor

if TYPE_CHECKING:
    from freezekit.results.records import Result, Row


def notes(result: Result) -> Notes:
    """Return everything that is said of a result.

    Example:
        >>> from freezekit.results.records import Result, Row, Workload
        >>> row = Row("head-only", status="oom", error="killed, signal 9")
        >>> result = Result("0.1.0", Workload("timm:resnet18"), {}, (row,), complete=True)
        >>> [note.text for note in notes(result).all]
        ['head-only: out of memory: killed, signal 9']
    """
    important = findings(result)
    details = [text for text in explain(result) if text not in important]
    found = [
        *(note("interrupted", text) for text in _interrupted(result)),
        *_failures(result),
        *_warnings(result),
        *(note("precision", text) for text in _noise(result)),
        *(note("finding", text) for text in important),
        *(note("detail", text) for text in (*details, *_circumstances(result))),
        *(note("definition", text) for text in definitions(result)),
    ]
    return Notes(tuple(found), "--explain")


def _interrupted(result: Result) -> list[str]:
    if result.complete:
        return []
    counted = sum(row.memory.peak_bytes is not None for row in result.rows)
    timed = sum(row.time is not None for row in result.rows)
    return [
        f"interrupted: the run did not finish; of {len(result.rows)} rows, {counted} have memory "
        f"figures and {timed} have step times; '-' means not measured"
    ]


def _failures(result: Result) -> list[Note]:
    """Return each failure once, with the rows that failed in this way."""
    failed = [(row.label, _failure(row)) for row in result.rows if row.status != "ok"]
    return [note_of_rows("failed", rows, text) for text, rows in rows_by_text(failed).items()]


def _failure(row: Row) -> str:
    plugin = ""
    if row.status == "error" and row.plugin:
        plugin = f" (plugin {row.plugin.name}, {row.plugin.distribution} {row.plugin.version})"
    return f"{FAILED[row.status]}{plugin}: {row.error or 'no reason was given'}"


def _warnings(result: Result) -> list[Note]:
    """Return what the whole run warns of, then what rows warn of, once with all their labels."""
    said = [(row.label, text) for row in result.rows for text in row.warnings]
    return [
        *(note("warning", text) for text in result.notes),
        *(note_of_rows("warning", rows, text) for text, rows in rows_by_text(said).items()),
    ]


def _noise(result: Result) -> list[str]:
    if all(row.time is None for row in result.rows):
        return []
    control, floor = result.control, noise_floor(result)
    if control is None:
        return ["noise floor unknown: no second copy of `full` was timed"]
    differed = f"two copies of `full` differed by {percent(abs(control.ratio - 1))}"
    if control.ratio_ci is None or floor is None:
        return [f"noise floor unknown: {differed} in the one block that was timed"]
    low, high = (f"{100 * (end - 1):+.1f} %" for end in control.ratio_ci)
    return [
        f"noise floor: {differed} [{low}, {high}]; no ratio between {band(floor)} is shown as a "
        "difference"
    ]


def _circumstances(result: Result) -> list[str]:
    cut = (result.timing_design or {}).get("cut")
    texts = [f"the time budget cut the timing: {cut}"] if cut else []
    if result.workload.loss_text:
        texts.append(f"loss: {result.workload.loss_text}")
    return texts
