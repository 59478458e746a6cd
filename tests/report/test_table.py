"""The terminal table: facts and shape, never a golden text."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import pytest
from msgspec.structs import replace
from rich.console import Console

from freezekit.report.table import print_result
from freezekit.results.derived import peak_change
from freezekit.results.records import Control, Memory, Result, Row

MakeResult = Callable[..., Result]


def _printed(result: Result, width: int, encoding: str = "utf-8", *, explain: bool = False) -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    print_result(result, Console(file=file, width=width), explain=explain)
    file.flush()
    return raw.getvalue().decode(encoding)


def _flat(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_every_figure_of_every_row_is_there_within_the_width(
    make_result: MakeResult, width: int
) -> None:
    text = _printed(make_result(), width)
    assert max(map(len, text.splitlines())) <= width
    for said in (
        "torchvision:resnet18, 8x3x128x128, float32, sgd, cpu, 2 threads, torch 2.15.0",
        "first-n-stages:n=2 + discriminative-lr:decay=0.8,freeze_below=0.1",
        "noise floor: two copies of `full` differed by 0.8 % [-0.9 %, +2.5 %]; no ratio between "
        "0.976 and 1.025 is shown as a difference",
    ):
        assert said in _flat(text)
    explained = _printed(make_result(), width, explain=True)
    assert max(map(len, explained.splitlines())) <= width
    for said in (
        "peak: The most memory that one training step takes: the highest total of the allocator. "
        "Measured in a real step",
        "loss: cross-entropy",
    ):
        assert said in _flat(explained)
    figures = r"4\.4% +80\.0 +-67% +0\.05 +11\.6 +61\.2 +0\.29 \[0\.28, 0\.30\]"
    assert re.search(figures, text)
    assert _flat(text).count("no difference shown") == 4


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_lean_row_stands_under_its_stock_row(make_result: MakeResult, width: int) -> None:
    rows = [row for row in make_result().rows[:5] for row in (row, replace(row, lean=True))]
    text = _printed(make_result(rows=tuple(rows)), width)
    assert max(map(len, text.splitlines())) <= width
    named = re.findall(r"^(head-only(?: \[lean\])?)(?=$| {2}|:)", text, re.MULTILINE)
    assert named == ["head-only", "head-only [lean]"]
    lean = next(row for row in rows if row.lean and row.strategy == "full")
    assert peak_change(make_result(rows=tuple(rows)), lean) == 0, "it has a change, stock has none"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_columns_line_up(make_result: MakeResult, width: int) -> None:
    lines = _printed(make_result(), width).split("\n\n")[1].splitlines()
    percents = [match.start() for line in lines[3:] if (match := re.search(r"\d%", line))]
    ratios = [match.end() for line in lines[3:] if (match := re.search(r"\[\d.+?\]", line))]
    assert len(percents) == 7
    assert len(ratios) == 6, "full has no interval"
    assert (len(set(percents)), len(set(ratios))) == (1, 1)
    assert len(lines[2]) == max(map(len, lines)) or width == 60, "the rule is as long as the rows"


def test_a_row_is_one_line_at_120_and_two_at_80(make_result: MakeResult) -> None:
    wide, narrow = _printed(make_result(), 120), _printed(make_result(), 80)
    assert re.search(r"^head-only +4\.4%.*faster$", wide, re.MULTILINE)
    assert re.search(r"^head-only\n +4\.4%.*faster$", narrow, re.MULTILINE)


def test_at_60_the_verdict_stands_beside_the_strategy(make_result: MakeResult) -> None:
    assert "\nbatch-norm: no difference shown\n" in _printed(make_result(), 60)


def test_a_pipe_gets_no_colour_and_no_control_characters(make_result: MakeResult) -> None:
    row = Row("head-only", status="error", error="\x1b[31mbad\x1b[0m\r\n\x07second\tline")
    text = _printed(make_result(rows=(*make_result().rows, row)), 80)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)
    assert re.search(r"^- head-only: error: bad\n  second line$", text, re.MULTILINE)


def test_a_terminal_gets_colour_where_it_means_something(make_result: MakeResult) -> None:
    file = io.StringIO()
    console = Console(file=file, width=120, force_terminal=True, color_system="standard")
    print_result(make_result(), console)
    assert "\x1b[32mfaster" in file.getvalue()


def test_an_ascii_terminal_gets_escapes(make_result: MakeResult) -> None:
    row = Row("by-name:contains=größe", status="error", error="weiß nicht")
    text = _printed(make_result(rows=(row,)), 80, encoding="ascii")
    assert r"by-name:contains=gr\xf6\xdfe" in text
    assert r"wei\xdf nicht" in text
    assert "größe" in _printed(make_result(rows=(row,)), 80)


def test_failed_rows_stand_with_their_reason_in_full(make_result: MakeResult) -> None:
    rows = make_result().rows
    reason = "killed by signal 9 (out of memory?) " * 8
    failed = (
        Row("head-only", status="oom", error=reason),
        replace(rows[4], status="error", error="ValueError: no stage"),
    )
    text = _printed(make_result(rows=(rows[0], *failed)), 80)
    assert f"head-only: out of memory: {reason.strip()}" in _flat(text)
    error = "error (plugin first-n-stages, freezekit 0.1.0): ValueError: no stage"
    assert f"first-n-stages:n=2: {error}" in _flat(text)
    assert re.search(r"201\.0 .* error$", text, re.MULTILINE)


def test_without_time_there_are_no_columns_and_no_notes_of_time(make_result: MakeResult) -> None:
    rows = tuple(replace(row, time=None) for row in make_result().rows)
    text = _printed(make_result(rows=rows, control=None, raw=None), 80, explain=True)
    assert "54.0" in text
    told = _flat(text).replace("in a real step", "").replace("one training step takes", "")
    told = told.replace("operations", "")
    for absent in ("step", "ratio", "verdict", "noise floor", "FLOPs do not predict"):
        assert absent not in told


def test_without_memory_there_are_no_columns_and_no_notes_of_memory(
    make_result: MakeResult,
) -> None:
    rows = tuple(replace(row, memory=Memory()) for row in make_result().rows)
    text = _printed(make_result(rows=rows), 80, explain=True)
    assert "0.68 [0.66, 0.71]" in text
    for absent in ("MiB", "peak", "saved"):
        assert absent not in text


def test_interrupted_and_empty_results_render(make_result: MakeResult) -> None:
    rows = make_result().rows[:2]
    for there, known in (((), 0), (rows, 2), ((*rows, Row("batch-norm")), 2)):
        text = _flat(_printed(make_result(rows=there, control=None, complete=False), 80))
        assert "interrupted: the run did not finish" in text
        assert f"of {len(there)} rows, {known} have memory figures and {known} have step" in text
    assert "interrupted" not in _printed(make_result(), 80)


def test_a_run_without_a_baseline_or_an_interval_renders(
    make_result: MakeResult, make_time: Callable[..., object]
) -> None:
    rows = make_result().rows
    failed = Row("full", status="oom", error="no memory")
    no_ratio = replace(make_time(0.2, None, None), verdict=None)  # type: ignore[type-var]  # a Time
    text = _printed(make_result(rows=(failed, replace(rows[1], time=no_ratio)), control=None), 80)
    assert re.search(r"80\.0 .*0\.05 +11\.6 +200\.0$", text, re.MULTILINE)
    one = _printed(make_result(control=Control(1.1, None)), 80)
    assert "noise floor unknown: two copies of `full` differed by 10.0 %" in _flat(one)


def test_a_narrow_terminal_loses_nothing(make_result: MakeResult) -> None:
    assert "0.29 [0.28, 0.30]" in _flat(_printed(make_result(), 40))
