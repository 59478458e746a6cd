"""The page of a sweep: accuracy against cost, the table, learning curves, data and settings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import to_builtins

from freezekit.report.formatting import MISSING, plain
from freezekit.report.html import accuracy_cost, learning_curves
from freezekit.report.html.embedding import as_json
from freezekit.report.html.facts import SHOWN_APART, Facts, facts_of
from freezekit.report.html.shell import render_page
from freezekit.report.html.sorting import Cell, Head, Line, Sortable
from freezekit.report.note_records import URGENT
from freezekit.report.sweep_cells import sweep_cells, sweep_title
from freezekit.report.sweep_notes import recommendation, sweep_notes
from freezekit.sweep.figures import FIGURES
from freezekit.sweep.records import Estimate
from freezekit.sweep.store import to_json

if TYPE_CHECKING:
    from freezekit.report.html.drawing import Drawing
    from freezekit.report.note_records import Note
    from freezekit.sweep.records import Sweep, SweepRow

SORTED_BY = {
    "learning rate": "lr",
    "time, ratio to full": "train_seconds_to_full",
    "memory, ratio to full": "peak_bytes_to_full",
    "GFLOP, ratio to full": "gflops_to_full",
}
"""Columns of the terminal's table, and the figures that they are sorted by."""


@dataclass(frozen=True)
class Section:
    """What the page shows.

    Attributes:
        recommendation: The sentence that names a candidate; None where none is recommended.
        urgent: Notes that stand right under the table: an interruption, failures.
        notes: Warnings, and what the intervals carry.
        details, definitions: Notes that unfold.
    """

    id: str
    model: str
    title: str
    recommendation: str | None
    drawings: tuple[Drawing, ...]
    table: Sortable
    urgent: tuple[Note, ...]
    notes: tuple[Note, ...]
    details: tuple[Note, ...]
    definitions: tuple[Note, ...]
    command: str | None
    data: Facts
    settings: Facts
    environment: Facts


def render_sweep_html(sweep: Sweep) -> str:
    """Return a sweep as one HTML document that fetches nothing.

    What comes from plugins, files and the machine is escaped everywhere. The same sweep gives the
    same text.

    Example:
        >>> from freezekit.sweep.records import Settings, Sweep
        >>> from freezekit.training.records import DataFacts
        >>> data = DataFacts("<b>photos", ("a", "b"), 80, 20, "given", "0")
        >>> page = render_sweep_html(Sweep("0.1.0", data, Settings(5, (0, 1, 2)), {}))
        >>> page.splitlines()[0], "&lt;b&gt;photos" in page, "<b>" in page
        ('<!doctype html>', True, False)
    """
    section = _section(sweep)
    return render_page(
        "sweep.html.j2",
        command="freezekit sweep",
        title=section.model,
        name=section.model,
        drawings=section.drawings,
        data=as_json(json.loads(to_json(sweep))),
        generator="freezekit sweep",
        section=section,
    )


def _section(sweep: Sweep) -> Section:
    said = sweep_notes(sweep)
    models = list(dict.fromkeys(row.candidate.model for row in sweep.rows))
    name = models[0] if len(models) == 1 else sweep.data.source
    command = sweep.env.get("command")
    return Section(
        id="r1",
        model=plain(name).replace("\n", " "),
        title=sweep_title(sweep),
        recommendation=recommendation(sweep),
        drawings=(accuracy_cost.draw(sweep), learning_curves.draw(sweep)),
        table=sortable_sweep(sweep),
        urgent=said.of(*URGENT),
        notes=said.of("warning", "precision", "finding"),
        details=said.of("detail"),
        definitions=said.of("definition"),
        command=plain(command) if isinstance(command, str) and command else None,
        data=_data(sweep),
        settings=_settings(sweep),
        environment=facts_of({k: v for k, v in sweep.env.items() if k not in SHOWN_APART}),
    )


def sortable_sweep(sweep: Sweep) -> Sortable:
    """Return the columns of the terminal's table, and all figures in bytes, seconds and fractions.

    Example:
        >>> from freezekit.sweep.records import Candidate, Settings, Sweep, SweepRow
        >>> from freezekit.training.records import DataFacts
        >>> data = DataFacts("photos", ("a", "b"), 80, 20, "given", "0")
        >>> row = SweepRow(Candidate("m", "full"), "full", True, lr=3e-4, status="ok")
        >>> found = sortable_sweep(Sweep("0.1.0", data, Settings(5, (0, 1, 2)), {}, (row,)))
        >>> found.heads[0].title, found.lines[0].cells[0]
        ('learning rate', Cell(text='0.0003', value='0.0003'))
    """
    shown = sweep_cells(sweep)
    by_name = {figure.name: figure for figure in FIGURES}
    numbers = [figure for figure in FIGURES if figure.is_number]
    raw = [f for f in numbers if any(f.value(sweep, row) is not None for row in sweep.rows)]

    def key(title: str, row: SweepRow) -> str:
        name = SORTED_BY.get(title)
        if name is None and title.endswith("[95% interval]"):
            name = "metric_to_full" if title.startswith("difference") else "metric"
        value = by_name[name].value(sweep, row) if name else None
        return _number(1.0 if value is None and row.is_baseline and "ratio" in title else value)

    heads = [
        *(Head(column.title, column.title != "verdict") for column in shown.columns),
        *(Head(figure.name, is_number=True, is_raw=True) for figure in raw),
    ]
    lines = []
    for at, (row, texts) in enumerate(zip(sweep.rows, shown.rows, strict=True), 1):
        titles = [column.title for column in shown.columns]
        cells = [Cell(text, key(title, row)) for title, text in zip(titles, texts, strict=True)]
        cells += [_raw_cell(figure.read(sweep, row)) for figure in raw]
        name = plain(row.label).replace("\n", " ")
        status = "error" if row.status == "diverged" else row.status
        lines.append(Line(at, name, status, tuple(cells)))
    return Sortable(tuple(heads), tuple(lines))


def _raw_cell(found: object) -> Cell:
    if not isinstance(found, Estimate):
        text = f"{found:.6g}" if isinstance(found, (int, float)) else MISSING
        return Cell(text, _number(found))
    ends = "" if found.low is None else f" [{found.low:.6g}, {found.high:.6g}]"
    return Cell(f"{found.value:.6g}{ends}", _number(found.value))


def _number(value: object) -> str:
    return repr(value) if isinstance(value, (int, float)) else ""


def _data(sweep: Sweep) -> Facts:
    found = to_builtins(sweep.data)
    del found["val_labels"], found["notes"]
    return facts_of({**found, "skipped": found["skipped"] or None})


def _settings(sweep: Sweep) -> Facts:
    found = to_builtins(sweep.settings)
    found = {name: value for name, value in found.items() if value not in ((), [])}
    return facts_of({**found, "seconds": sweep.seconds})
