"""What fits, as a table, Markdown and JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from freezekit.bench.environment import differing
from freezekit.errors import OutputError
from freezekit.fit.margin import UNCHECKED_MARGIN
from freezekit.report import formatting
from freezekit.report.cells import FAILED, Column, tabulate, title
from freezekit.report.markdown import markdown_table
from freezekit.report.notes import Note
from freezekit.report.table import heading, note_lines, table_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from freezekit.fit.records import Fit, FitRow, WorkspaceCheck
    from freezekit.results.records import Memory, Result, Workload

_FITTED_AFTER_ALL = "which fits, though by prediction and margin it does not"
QUESTIONS = "the largest batch that fits", "does it fit"


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


def fit_lines(fit: Fit, timing: Sequence[Result], width: int, encoding: str) -> list[Text]:
    """Return a table and its notes for a terminal of that many columns.

    Args:
        fit: What fits.
        timing: Bench runs of the same step, but for its batch size; of a row, the last counts.
        width: Of the terminal.
        encoding: Likewise.
    """
    cells = tabulate(_columns(fit, timing), [(row,) for row in fit.rows])
    labels = [row.label for row in fit.rows]
    return [
        heading(_title(fit), width, encoding),
        heading("", width, encoding),
        *table_lines(cells, labels, width, encoding),
        *note_lines(_notes(fit, timing), width, encoding),
    ]


def fit_markdown(fit: Fit, timing: Sequence[Result]) -> str:
    """Return the same as Markdown."""
    cells = tabulate(_columns(fit, timing), [(row,) for row in fit.rows])
    labels = [row.label for row in fit.rows]
    return markdown_table(_title(fit), cells, labels, _notes(fit, timing))


def fit_json(fit: Fit) -> str:
    """Return the records as JSON, bytes throughout."""
    return json.dumps(asdict(fit), indent=2) + "\n"


def check_replaceable(path: str | Path) -> None:
    """Raise where a file is there already that holds anything but what fits.

    Raises:
        OutputError: It is such a file, or cannot be read.
    """
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OutputError(f"cannot read {str(path)!r}, which is to be replaced: {reason}") from None
    if text.strip() and not _is_fit(text):
        raise OutputError(
            f"cannot write {str(path)!r}: it is there already and is not what `freezekit fit` "
            "wrote; name another file, or remove it first"
        )


def _is_fit(text: str) -> bool:
    """Tell whether `fit_json` or `fit_markdown` returned the text, by how it begins."""
    if text.startswith("**"):
        return any(f": {asked} into " in text.partition("\n")[0] for asked in QUESTIONS)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(data, dict) and data.get("kind") == "freezekit fit"


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
    from dataclasses import replace

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


def _notes(fit: Fit, timing: Sequence[Result]) -> list[Note]:
    return [
        *(Note("failed", f"{r.label}: {r.error}") for r in fit.rows if r.status != "ok"),
        *(Note("warning", text) for text in _not_even_one(fit)),
        *(Note("note", text) for text in _no_larger_tried(fit)),
        *(said for row in fit.rows if (said := _verified(fit, row))),
        Note("note", _method(fit)),
        *(Note("note", text) for text in _timed(fit, timing)),
    ]


def _timed(fit: Fit, timing: Sequence[Result]) -> list[str]:
    """Say of the speeds shown at what batch they were measured, and where."""
    last = {row.label: run for run in timing for row in run.rows if row.time}
    labels: dict[str, list[str]] = {}
    for row in fit.rows:
        if row.label in last:
            run = last[row.label]
            elsewhere = ", ".join(differing(run.env, fit.env))
            text = f"as measured at batch {run.workload.batch_size}; another batch may differ"
            text += f"; measured with another {elsewhere}" if elsewhere else ""
            labels.setdefault(text, []).append(row.label)
    if len(labels) == 1:
        return [f"images/s: {text}" for text in labels]
    return [f"images/s of {', '.join(names)}: {text}" for text, names in labels.items()]


def _not_even_one(fit: Fit) -> list[str]:
    return [
        f"{row.label}: not even the smallest batch fits: a step takes "
        f"{formatting.mib(row.memory.peak_bytes)} MiB; give more --memory, a smaller "
        "--image-size, or another strategy"
        for row in fit.rows
        if row.batch_size == 0
    ]


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
    text = f"{row.label}: a real step of batch {row.batch_size} took {formatting.mib(peak)} MiB"
    fits = fit.fits(row)
    if not held and fits:
        above = 100 * (peak / row.memory.peak_bytes - 1)
        return Note("failed", f"{text}, more than there is; try --margin {above + 0.1:.1f}")
    if not fits:
        return Note("note", f"{text}, {_FITTED_AFTER_ALL if held else 'too much, as predicted'}")
    after = row.measured_next_peak_bytes
    if after is None:
        return Note("note", text)
    said = "too much"
    if after <= fit.memory_bytes:
        said = "which fits too" if row.next_peak_bytes is None else _FITTED_AFTER_ALL
    return Note("note", f"{text}; batch {row.batch_size + 1} {formatting.mib(after)} MiB, {said}")


def _unlike_the_rules(fit: Fit, check: WorkspaceCheck) -> str:
    where = f"torch {fit.env.get('torch', '')} on {check.cpu_capability}"
    more = "more" if check.largest_error > 0 else "less"
    so = ", so a larger margin is left" if fit.margin == UNCHECKED_MARGIN else ""
    return (
        f"predictions are less exact here{so}: {len(check.differing)} of {check.operators} "
        f"operators that were run with {where} held other memory than the rules say, up to "
        f"{abs(check.largest_error):.0%} {more}"
    )


def _method(fit: Fit) -> str:
    workspace = (
        "what convolutions take for a moment counted"
        if fit.workload.device == "cpu"
        else "without the allocator's workspace"
    )
    found = (
        f"peaks are predicted under fake tensors, a step each, {workspace}; "
        f"{100 * fit.margin:g}% of the peak is left free for the rest"
    )
    if fit.workspace_check and not fit.workspace_check.holds:
        found += f"; {_unlike_the_rules(fit, fit.workspace_check)}"
    answered = [row for row in fit.rows if row.status == "ok" and row.batch_size]
    if any(row.next_peak_bytes for row in answered):
        found += "; by prediction the batch shown fits and the next, larger by one image, does not"
    if any(row.batch_size == 0 for row in fit.rows):
        found += "; where no batch fits, the peak is that of the smallest"
    if answered and all(row.measured_peak_bytes is None for row in answered):
        found += "; --verify runs real steps"
    return found
