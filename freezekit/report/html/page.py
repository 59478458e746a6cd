"""The whole page: sections of results, styles, script and data in one text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from freezekit.report.cells import title
from freezekit.report.formatting import plain
from freezekit.report.html import facts, forest, peak, stages, steps, tradeoff
from freezekit.report.html.drawing import Grid
from freezekit.report.html.embedding import results_json
from freezekit.report.html.shell import render_page
from freezekit.report.html.sorting import sortable
from freezekit.report.note_records import URGENT
from freezekit.report.notes import notes
from freezekit.report.over_time import phase_cells, phase_labels, schedule_title, whole_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.report.html.drawing import Drawing
    from freezekit.report.html.facts import Facts
    from freezekit.report.html.sorting import Sortable
    from freezekit.report.note_records import Note
    from freezekit.results.records import Result, ScheduleCost

CHARTS = (tradeoff.draw, peak.draw, forest.draw, stages.draw, steps.draw)


@dataclass(frozen=True)
class Training:
    """What the page shows of a schedule: its title, its phases, and what the whole run takes."""

    title: str
    phases: Grid
    whole: str


@dataclass(frozen=True)
class Section:
    """What the page shows of one result.

    Attributes:
        trainings: One for each schedule.
        urgent: Notes that stand right under the table: an interruption, failures.
        notes: Notes that the terminal shows first; here none is shortened or left out.
        details, definitions: Notes that unfold.
    """

    id: str
    model: str
    title: str
    rows: int
    drawings: tuple[Drawing, ...]
    table: Sortable
    trainings: tuple[Training, ...]
    urgent: tuple[Note, ...]
    notes: tuple[Note, ...]
    details: tuple[Note, ...]
    definitions: tuple[Note, ...]
    command: str | None
    workload: Facts
    environment: Facts


def render_html(results: Sequence[Result]) -> str:
    """Return results as one HTML document that fetches nothing.

    What comes from plugins, models and the machine is escaped everywhere. The same results give the
    same text.

    Example:
        >>> from freezekit.results.records import Result, Row, Workload
        >>> page = render_html([Result("0.1.0", Workload("timm:<b>"), {}, rows=(Row("full"),))])
        >>> page.splitlines()[0], "timm:&lt;b&gt;" in page, "<b>" in page
        ('<!doctype html>', True, False)
    """
    sections = [_section(result, number) for number, result in enumerate(results, 1)]
    one = sections[0] if len(sections) == 1 else None
    return render_page(
        "page.html.j2",
        command="freezekit bench",
        title=one.model if one else f"{len(sections)} results",
        name=one.model if one else "results",
        drawings=[drawing for section in sections for drawing in section.drawings],
        data=results_json(results) if results else Markup("[]"),
        generator="freezekit",
        sections=sections,
    )


def _section(result: Result, number: int) -> Section:
    said = notes(result)
    return Section(
        id=f"r{number}",
        model=plain(result.workload.model).replace("\n", " "),
        title=title(result),
        rows=len(result.rows),
        drawings=tuple(draw(result) for draw in CHARTS),
        table=sortable(result),
        trainings=tuple(_training(result, one) for one in result.schedules),
        urgent=said.of(*URGENT),
        notes=said.of("warning", "precision", "finding"),
        details=said.of("detail"),
        definitions=said.of("definition"),
        command=facts.command(result),
        workload=facts.workload(result),
        environment=facts.environment(result),
    )


def _training(result: Result, schedule: ScheduleCost) -> Training:
    found, labels = phase_cells(result, schedule), phase_labels(schedule)
    heads = ("phase", *(column.title for column in found.columns))
    lines = tuple((plain(name), *texts) for name, texts in zip(labels, found.rows, strict=True))
    return Training(schedule_title(schedule), Grid(heads, lines), whole_run(result, schedule))
