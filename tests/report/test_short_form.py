"""At most ten lines of 80 columns stand under a table; what they leave out is told elsewhere."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from freezekit.report.html.page import render_html
from freezekit.report.markdown import render_markdown
from freezekit.report.note_records import Note, Notes, note, wrapped
from freezekit.report.notes import notes
from freezekit.report.short_form import MOST_LINES, short_form
from freezekit.report.table import print_result
from freezekit.results.records import Result, Row
from freezekit.results.store import load

MakeRow = Callable[..., Row]
MakeResult = Callable[..., Result]
README_RUN = Path(__file__).parents[2] / "benchmarks" / "results" / "readme-bench.json"


def under_the_table(result: Result, *, explain: bool = False) -> list[str]:
    console = Console(width=80, record=True, file=io.StringIO())
    print_result(result, console, explain=explain)
    return console.export_text().split("\n\n", 2)[2].splitlines()


def busy(make_result: MakeResult, make_row: MakeRow) -> Result:
    """Return 30 rows: some failed, all others warn, several in words of their own."""
    names = [f"first-n-stages:n={i} + discriminative-lr:decay=0.{i}" for i in range(1, 25)]
    rows = [
        make_row(
            name,
            trainable=5,
            saved=54.0,
            time=make_result().rows[1].time,
            warnings=("not_steady: " + "drifts " * 20, f"w{i}"),
        )
        for i, name in enumerate(names)
    ]
    failed = [
        Row(
            f"surgical:stages={i}", status="error", error=f"ValueError: {i} " + "no such stage " * 9
        )
        for i in range(4)
    ]
    killed = Row("batch-norm", status="oom", error="killed, signal 9")
    all_rows = (make_row("full"), *rows, *failed, killed)
    assert len(all_rows) == 30
    return make_result(rows=all_rows, notes=("a load of 3: step times will not be trustworthy",))


def test_the_run_of_the_readme_takes_ten_lines() -> None:
    (result,) = load(README_RUN)
    lines = under_the_table(result)
    assert len(lines) <= MOST_LINES
    text = " ".join(lines)
    places = [text.index(said) for said in ("3 of 20 norm", "noise floor:", "batch-norm free at")]
    assert places == sorted(places), "warnings, the noise floor, what changes a decision"
    assert re.fullmatch(r"\d+ more notes.* and definitions: --explain", lines[-1])


def test_thirty_rows_take_ten_lines_and_every_failure_is_told(
    make_result: MakeResult, make_row: MakeRow
) -> None:
    result = busy(make_result, make_row)
    lines = under_the_table(result)
    assert len(lines) <= MOST_LINES, "\n".join(lines)
    for row in result.rows:
        if row.status != "ok":
            assert any(line.startswith(f"- {row.label}: ") for line in lines)
    assert "- batch-norm: out of memory: killed, signal 9" in lines
    assert any(line.startswith("- a load of 3") for line in lines)
    assert any(line.startswith("- noise floor: two copies of `full` differed") for line in lines)
    assert "warnings)" in lines[-1]
    assert "notes in full" in lines[-1]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_explained_nothing_is_left_out(
    make_result: MakeResult, make_row: MakeRow, width: int
) -> None:
    for result in (*load(README_RUN), busy(make_result, make_row)):
        console = Console(width=width, record=True, file=io.StringIO())
        print_result(result, console, explain=True)
        told = " ".join(console.export_text().split())
        for one in notes(result).all:
            assert " ".join(one.text.split()) in told
        assert "--explain" not in told


def test_markdown_folds_what_the_ten_lines_leave_out(
    make_result: MakeResult, make_row: MakeRow
) -> None:
    result = busy(make_result, make_row)
    shown, folded = render_markdown([result]).split("<details>")
    assert shown.count("\n- ") == len(short_form(notes(result)).shown)
    assert folded.endswith("</details>\n")
    whole = (shown + folded).replace("\\", "")
    for one in notes(result).all:
        assert one.text in whole


def test_html_shortens_nothing_and_folds_details_and_definitions(
    make_result: MakeResult, make_row: MakeRow
) -> None:
    result = busy(make_result, make_row)
    page = re.sub(r"<script.*?</script>", "", render_html([result]), flags=re.DOTALL)
    under, card = re.search(  # type: ignore[union-attr]  # it is there
        r'id="r1-table"(.*?)</section>\s*<section class="card" id="r1-notes"(.*?)</section>',
        page,
        re.DOTALL,
    ).groups()
    shown, *folded = card.split("<details>")
    places: dict[str, str] = {"failed": under, "detail": folded[0], "definition": folded[1]}
    for one in notes(result).all:
        assert html.escape(one.text).replace("&#x27;", "&#39;") in places.get(one.kind, shown)


def test_many_failures_are_all_told_be_they_more_than_ten_lines(make_result: MakeResult) -> None:
    rows = tuple(
        Row(f"first-n-stages:n={i}", status="error", error=f"ValueError {i}") for i in range(20)
    )
    lines = under_the_table(make_result(rows=rows, control=None))
    assert [line for line in lines if "ValueError" in line] == [
        f"- first-n-stages:n={i}: error: ValueError {i}" for i in range(20)
    ]


def test_rows_that_failed_alike_are_told_of_once(make_result: MakeResult) -> None:
    rows = tuple(Row(name, status="oom", error="killed") for name in ("full", "head-only"))
    assert "- full, head-only: out of memory: killed" in under_the_table(make_result(rows=rows))


def test_a_short_form_grows_where_there_is_room() -> None:
    long = "the pattern misses a norm; " * 5
    (alone,) = short_form(Notes((note("warning", long),), "--explain")).shown
    assert alone.text == long
    crowd = tuple(note("warning", f"{i} {long}") for i in range(8))
    found = short_form(Notes(crowd, "--explain"))
    assert [len(wrapped(one.text, 80)) for one in found.shown] == [2, *[1] * 7]
    assert found.left_out == "7 notes in full"
    assert found.rest == crowd[1:]


def test_everything_that_fits_needs_no_last_line() -> None:
    found = short_form(Notes((Note("finding", "short"),), "--explain"))
    assert (found.left_out, found.rest) == ("", ())
