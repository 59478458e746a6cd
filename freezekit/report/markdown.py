"""Results as Markdown, for an issue, a pull request or a README."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from freezekit.report.cells import cells, title
from freezekit.report.formatting import plain
from freezekit.report.notes import notes
from freezekit.report.over_time import (
    phase_cells,
    phase_labels,
    rows_of_strategies,
    schedule_title,
    whole_run,
)
from freezekit.report.short_form import short_form

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.report.cells import Cells
    from freezekit.report.note_records import Note, Notes
    from freezekit.results.records import Result, ScheduleCost


def render_markdown(results: Sequence[Result]) -> str:
    r"""Return each result as a title, a table as GitHub reads it, and the notes as a list.

    Notes beyond the first ten lines, and what the columns mean, stand in a part that unfolds.

    Example:
        >>> from freezekit.results.records import Parameters, Result, Row, Workload
        >>> row = Row("by-name:contains=bn|norm", parameters=Parameters(100, 99, "a"))
        >>> result = Result("0.1.0", Workload("timm:resnet18"), {}, (row,), complete=True)
        >>> print(render_markdown([result]), end="")
        **timm:resnet18, batch 8, float32, sgd, cpu**
        <BLANKLINE>
        | strategy | trainable |
        | --- | ---: |
        | `by-name:contains=bn\|norm` | 99.0% |
        <BLANKLINE>
        <details><summary>definitions</summary>
        <BLANKLINE>
        - trainable: The share of the parameters that train. It does not predict memory.
        <BLANKLINE>
        </details>
    """
    return "\n".join(_one(result) for result in results)


def _one(result: Result) -> str:
    rows = rows_of_strategies(result)
    below = [line for one in result.schedules for line in _phases(result, one)]
    labels = [row.label for row in rows]
    return markdown_table(title(result), cells(result, rows), labels, notes(result), below)


def _phases(result: Result, schedule: ScheduleCost) -> list[str]:
    found, labels = phase_cells(result, schedule), phase_labels(schedule)
    table = _titled_table(schedule_title(schedule), "phase", found, labels)
    return ["", *table, "", _escape(whole_run(result, schedule))]


def markdown_table(
    heading: str,
    found: Cells,
    labels: Sequence[str],
    said: Notes,
    below: Sequence[str] = (),
    first: str = "strategy",
) -> str:
    """Return a title, a table and notes, of which all but the short form are folded.

    Args:
        heading: The title.
        found: The table without its first column.
        labels: The first column.
        said: Notes.
        below: Lines between the table and the notes.
        first: What the first column is called.
    """
    lines = [*_titled_table(heading, first, found, labels), *below]
    short = short_form(said)
    if short.shown:
        lines += ["", *map(_item, short.shown)]
    if short.rest:
        summary = _escape(short.left_out)
        lines += ["", f"<details><summary>{summary}</summary>", "", *map(_item, short.rest), ""]
        lines += ["</details>"]
    return "\n".join(lines) + "\n"


def _titled_table(heading: str, first: str, found: Cells, labels: Sequence[str]) -> list[str]:
    rules = ["---", *("---:" if column.is_number else "---" for column in found.columns)]
    return [
        f"**{_escape(heading)}**",
        "",
        _line([first, *(column.title for column in found.columns)]),
        _line(rules),
        *(
            _line([_code(label), *map(_escape, texts)])
            for label, texts in zip(labels, found.rows, strict=True)
        ),
    ]


def _line(texts: list[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _code(text: str) -> str:
    text = plain(text).replace("\n", " ").replace("|", "\\|")  # a table ends a cell at any |
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    blank = " " if longest else ""
    return f"{fence}{blank}{text}{blank}{fence}"


def _item(note: Note) -> str:
    text = "<br>\n  ".join(_escape(line) for line in note.text.splitlines())
    return f"- **{text}**" if note.kind in ("interrupted", "failed") else f"- {text}"


def _escape(text: str) -> str:
    return re.sub(r"([\\`*_<>|#~])", r"\\\1", text)
