"""The whole page: sections of results, styles, script and data in one text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2
from markupsafe import Markup

from freezekit.report.cells import title
from freezekit.report.formatting import plain
from freezekit.report.html import facts, forest, peak, stages, steps, tradeoff
from freezekit.report.html.drawing import CONFIG, Grid
from freezekit.report.html.embedding import as_json, as_script, results_json, runtime
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

HERE = Path(__file__).parent
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
    has_charts = any(drawing.spec for section in sections for drawing in section.drawings)
    return _template().render(
        sections=sections,
        title=sections[0].model if len(sections) == 1 else f"{len(sections)} results",
        style=Markup((HERE / "style.css").read_text(encoding="utf-8")),
        script=as_script((HERE / "script.js").read_text(encoding="utf-8")),
        runtime=runtime() if has_charts else "",
        config=as_json(CONFIG),
        data=results_json(results) if results else "[]",
        file_name=_file_name(sections),
        as_json=as_json,
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


def _file_name(sections: Sequence[Section]) -> str:
    """Return a name to save the data under that every system takes.

    Example:
        >>> _file_name([])
        'results.json'
    """
    if len(sections) != 1:
        return "results.json"
    return re.sub(r"[^\w.-]+", "-", sections[0].model, flags=re.ASCII).strip("-.") + ".json"


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2")
