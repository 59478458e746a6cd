"""What fits, as a table, Markdown and JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from freezekit.report import formatting
from freezekit.report.cells import FAILED, Column, tabulate, title
from freezekit.report.fit_notes import fit_notes
from freezekit.report.markdown import markdown_table
from freezekit.report.table import heading, note_lines, table_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from freezekit.fit.records import Fit, FitRow
    from freezekit.results.records import Memory, Result, Workload

QUESTIONS = "the largest batch that fits", "does it fit"


@dataclass(frozen=True)
class FitReport:
    """What is shown of a fit.

    Attributes:
        fit: What fits.
        timing: Bench runs of the same step, but for its batch size; of a row, the last counts.
    """

    fit: Fit
    timing: tuple[Result, ...] = ()


def images_per_second(runs: Sequence[Result]) -> dict[str, float]:
    """Return by label how fast each row with a step time is, in the last run that has one.

    Example:
        >>> from freezekit.results.records import Result, Row, StepSeconds, Time, Workload
        >>> row = Row("full", time=Time(StepSeconds(0.5, 0.4, 0.6), 1.0, None, "baseline"))
        >>> images_per_second([Result("0.1.0", Workload("timm:resnet18"), {}, (row,))])
        {'full': 16.0}
    """
    return {
        row.label: run.workload.batch_size / row.time.step_seconds.median
        for run in runs
        for row in run.rows
        if row.time
    }


def fit_lines(report: FitReport, width: int, encoding: str) -> list[Text]:
    """Return a table and at most ten lines of notes for a terminal of that many columns.

    Args:
        report: What fits.
        width: Of the terminal.
        encoding: Likewise.
    """
    fit, timing = report.fit, report.timing
    cells = tabulate(_columns(fit, timing), [(row,) for row in fit.rows])
    labels = [row.label for row in fit.rows]
    return [
        heading(_title(fit), width, encoding),
        heading("", width, encoding),
        *table_lines(cells, labels, width, encoding),
        *note_lines(fit_notes(fit, timing), width, encoding),
    ]


def fit_markdown(report: FitReport) -> str:
    """Return the same as Markdown, all notes included."""
    fit, timing = report.fit, report.timing
    cells = tabulate(_columns(fit, timing), [(row,) for row in fit.rows])
    labels = [row.label for row in fit.rows]
    return markdown_table(_title(fit), cells, labels, fit_notes(fit, timing))


def fit_json(report: FitReport) -> str:
    """Return the records as JSON, bytes throughout."""
    data = msgspec.to_builtins(report.fit)
    first = {"kind": data.pop("kind")}
    return json.dumps({**first, **data}, indent=2) + "\n"


def largest_part(memory: Memory) -> tuple[str, int] | None:
    """Return what takes most of a step's memory, and its bytes.

    "moments" is what is left of the peak: tensors that live within forward or backward only. Not
    all parts need be there at the moment of the peak, so that it may be more.

    Example:
        >>> from freezekit.results.records import Memory
        >>> largest_part(Memory(peak_bytes=10, parameters_bytes=2, saved_activations_bytes=7))
        ('activations', 7)
    """
    parts = {
        "parameters": memory.parameters_bytes,
        "buffers": memory.buffers_bytes,
        "inputs": memory.inputs_bytes,
        "gradients": memory.gradients_bytes,
        "optimizer": memory.optimizer_bytes,
        "activations": memory.saved_activations_bytes,
    }
    known = {name: count for name, count in parts.items() if count is not None}
    if memory.peak_bytes is None or not known:
        return None
    known["moments"] = max(0, memory.peak_bytes - sum(known.values()))
    return max(known.items(), key=lambda part: part[1])


def _title(fit: Fit) -> str:
    run = _as_run(fit)
    asked = QUESTIONS[bool(fit.asked_batch_size)]
    return f"{title(run)}: {asked} into {formatting.mib(fit.memory_bytes)} MiB"


def _as_run(fit: Fit) -> Result:
    """Return what a title is made of; the shape of one image where the batch is what is asked."""
    from msgspec.structs import replace

    from freezekit.results.records import Result

    workload: Workload = fit.workload
    if not fit.asked_batch_size and workload.input_shape:
        workload = replace(workload, input_shape=workload.input_shape[1:])
    return Result(fit.freezekit, workload, fit.env)


def _columns(fit: Fit, timing: Sequence[Result]) -> tuple[Column, ...]:
    speeds = images_per_second(timing)

    def answer(row: FitRow) -> str:
        if row.status != "ok":
            return FAILED[row.status]
        held = fit.held(row)  # what a real step took outdoes the prediction
        if fit.asked_batch_size:
            found = fit.fits(row) if held is None else held
            return {True: "fits", False: "too much", None: ""}[found]
        if row.batch_size is None:
            return formatting.MISSING
        return f"not {row.batch_size}" if held is False else str(row.batch_size)

    def room(row: FitRow) -> str:
        peak = row.memory.peak_bytes
        return formatting.MISSING if peak is None else _part_of(fit.memory_bytes, peak)

    def part(row: FitRow) -> str:
        found = largest_part(row.memory)
        if found is None or not row.memory.peak_bytes:
            return ""
        return f"{found[0]} {found[1] / row.memory.peak_bytes:.0%}"

    def images(row: FitRow) -> str:
        return formatting.number(speeds[row.label]) if row.label in speeds else formatting.MISSING

    return (
        Column("batch", ("", "batch"), answer),
        Column("peak, MiB", ("peak", "MiB"), lambda row: formatting.mib(row.memory.peak_bytes)),
        Column("of the memory", ("of the", "memory"), room),
        Column(
            "real step, MiB",
            ("real", "MiB"),
            lambda row: formatting.mib(row.measured_peak_bytes),
        ),
        Column("images/s", ("images", "/s"), images),
        Column("largest part of the peak", ("largest part", "of the peak"), part, False),
    )


def _part_of(memory_bytes: int, peak_bytes: int) -> str:
    """Return a peak as a share of the memory, or how many times it is."""
    part = peak_bytes / memory_bytes
    return formatting.share(part) if part < 2 else f"{formatting.number(part)}x"
