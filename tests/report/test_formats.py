"""Files: CSV, Markdown, and the choice by extension."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import jsonschema
import pytest
from msgspec.structs import replace

from freezekit.errors import OutputError
from freezekit.report.cells import cells, title
from freezekit.report.csv_table import render_csv
from freezekit.report.formats import RESULT_FORMATS
from freezekit.report.markdown import render_markdown
from freezekit.report.output import write
from freezekit.results.records import Memory, Parameters, Result, Row, Workload
from freezekit.results.schema import result_schema
from freezekit.results.store import load

if TYPE_CHECKING:
    from pathlib import Path

MakeResult = Callable[..., Result]
MIB = 2**20


def _read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_json_is_valid_and_reads_back(make_result: MakeResult, tmp_path: Path) -> None:
    schema = result_schema()
    other = make_result(workload=Workload("timm:vit_tiny_patch16_224"), complete=False)
    for results in ([make_result()], [make_result(), other]):
        write(results, RESULT_FORMATS, tmp_path / "r.json")
        jsonschema.validate(json.loads((tmp_path / "r.json").read_text()), schema)
        assert load(tmp_path / "r.json") == tuple(results)


def test_every_extension_that_is_accepted_is_written(
    make_result: MakeResult, tmp_path: Path
) -> None:
    for known in RESULT_FORMATS:
        path = tmp_path / f"r{known.extension}"
        write([make_result()], RESULT_FORMATS, path)
        assert "first-n-stages:n=2" in path.read_text()
    with pytest.raises(OutputError, match=r"'\.htm'.*expected \.json, \.csv, \.md, \.html, "):
        write([make_result()], RESULT_FORMATS, tmp_path / "r.htm")


def test_csv_has_a_line_for_each_row_with_bytes_and_seconds(make_result: MakeResult) -> None:
    text = render_csv([make_result()])
    assert len(text.splitlines()) == 1 + 7
    rows = _read_csv(text)
    head = rows[1]
    assert head["model"] == "torchvision:resnet18"
    assert head["input_shape"] == "8x3x128x128"
    assert head["torch"] == "2.15.0"
    assert int(head["peak_bytes"]) == 80 * MIB
    assert float(head["peak_change_fraction"]) == pytest.approx(80 / 242 - 1)
    assert float(head["step_seconds_median"]) == 0.0612
    assert float(head["ratio_ci_low"]) == 0.281
    assert head["verdict"] == "faster"
    assert head["pretrained"] == "false"
    assert rows[0]["peak_change_fraction"] == "", "full is not compared with itself"


def test_lean_rows_in_csv_and_markdown(make_result: MakeResult) -> None:
    full, head = make_result().rows[:2]
    assert head.time is not None
    time = replace(head.time, ratio_to_stock=1.02, ratio_to_stock_ci=(1.0, 1.04))
    result = make_result(rows=(full, head, replace(head, lean=True, time=time)))
    _, stock, lean = _read_csv(render_csv([result]))
    assert (stock["strategy"], lean["strategy"]) == ("head-only", "head-only")
    assert (stock["lean"], lean["lean"]) == ("false", "true")
    names = ("ratio_to_stock", "ratio_to_stock_ci_low", "ratio_to_stock_ci_high")
    assert [stock[name] for name in names] == ["", "", ""]
    assert [float(lean[name]) for name in names] == [1.02, 1.0, 1.04]
    table = [line for line in render_markdown([result]).splitlines() if line.startswith("|")]
    assert [line.split(" | ")[0] for line in table[3:]] == ["| `head-only`", "| `head-only [lean]`"]


def test_csv_of_several_models_and_of_nothing_have_the_same_columns(
    make_result: MakeResult,
) -> None:
    other = make_result(workload=Workload("timm:vit"), rows=(Row("full"),), env={}, control=None)
    both = _read_csv(render_csv([make_result(), other]))
    assert [row["model"] for row in both] == ["torchvision:resnet18"] * 7 + ["timm:vit"]
    header = render_csv([make_result()]).splitlines()[0]
    assert render_csv([other]).splitlines()[0] == header
    assert render_csv([make_result(rows=())]) == header + "\n"
    for column in header.split(","):
        assert column == column.lower().strip()
        assert not any(unit in column for unit in ("_mib", "_ms", "percent"))


def test_csv_keeps_a_row_in_a_line_whatever_an_error_says(make_result: MakeResult) -> None:
    error = 'RuntimeError: "a", b;\nsecond line\r\n\x1b[31mred'
    row = Row("head-only", status="error", error=error, warnings=("one", "two"))
    text = render_csv([make_result(rows=(row,))])
    assert len(text.splitlines()) == 2
    (read,) = _read_csv(text)
    assert read["error"] == 'RuntimeError: "a", b; second line red'
    assert read["warnings"] == "one; two"


def test_csv_has_no_figure_that_is_not_finite(make_result: MakeResult) -> None:
    row = make_result().rows[0]
    assert row.time is not None
    row = replace(row, time=replace(row.time, ratio=float("nan"), ratio_ci=(0.0, float("inf"))))
    (read,) = _read_csv(render_csv([make_result(rows=(row,))]))
    assert (read["ratio"], read["ratio_ci_high"]) == ("", "")


def test_markdown_is_a_table_with_notes(make_result: MakeResult) -> None:
    rows = (*make_result().rows, Row("by-name:contains=a|b", status="oom", error="no `mem`"))
    lines = render_markdown([make_result(rows=rows)]).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + 8
    assert {line.replace("\\|", "").count("|") for line in table} == {10}
    assert table[-1].startswith("| `by-name:contains=a\\|b` |")
    assert "- **by-name:contains=a\\|b: out of memory: no \\`mem\\`**" in lines
    assert any("noise floor" in line for line in lines if line.startswith("- "))


def test_markdown_of_several_models_puts_one_after_the_other(make_result: MakeResult) -> None:
    other = make_result(workload=Workload("timm:vit"))
    text = render_markdown([make_result(), other])
    assert text.index("**torchvision:resnet18") < text.index("**timm:vit")
    assert render_markdown([make_result(rows=())])


def test_cells_leave_out_what_nobody_has() -> None:
    row = Row("full", memory=Memory(saved_activations_bytes=MIB), parameters=Parameters(4, 4, "a"))
    found = cells(Result("0.1.0", Workload("timm:resnet18"), {}, (row,)))
    assert [c.title for c in found.columns] == ["trainable", "saved activations, MiB"]
    assert found.rows == (("100%", "1.00"),)


def test_title_names_the_device_and_what_is_unusual() -> None:
    workload = Workload("timm:resnet18", device="cuda", amp="bfloat16", channels_last=True)
    workload = replace(workload, pretrained=True, num_classes=10)
    text = title(
        Result(
            "0.1.0", workload, env={"device": "NVIDIA H200", "threads": 8, "torch": "2.15.0+cu132"}
        )
    )
    assert text == (
        "timm:resnet18, pretrained, 10 classes, batch 8, channels last, float32, amp bfloat16, "
        "sgd, cuda (NVIDIA H200), torch 2.15.0"
    )


def test_reports_and_the_result_file_need_no_torch() -> None:
    code = (
        "import sys, freezekit.report.formats, freezekit.report.table\n"
        "print([m for m in ('torch', 'scipy', 'jsonschema') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_help_names_every_format() -> None:
    from freezekit.cli.options import OUTPUT_HELP

    named = set(re.findall(r"\.[a-z.]+\b", OUTPUT_HELP))
    assert named == {known.extension for known in RESULT_FORMATS}


def test_a_report_prints_the_table_and_never_overwrites_what_it_reads(
    make_result: MakeResult, tmp_path: Path
) -> None:
    path = tmp_path / "r.json"
    write([make_result()], RESULT_FORMATS, path)
    before = path.read_bytes()
    command = [sys.executable, "-m", "freezekit", "report", "r.json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "torchvision:resnet18, 8x3x128x128" in done.stdout
    (tmp_path / "link.json").symlink_to(path)
    for output in ("r.json", "./r.json", "link.json"):
        done = subprocess.run(
            [*command, "-o", output], capture_output=True, text=True, cwd=tmp_path, check=False
        )
        assert done.returncode == 2
        assert f"cannot write {output!r}: it is one of the results to read" in done.stderr
        assert path.read_bytes() == before
