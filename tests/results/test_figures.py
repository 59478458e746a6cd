"""The list of figures: what it says, and that everything that shows figures reads it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

from freezekit.results.figures import FIGURES
from freezekit.results.records import Memory, Result, Row, Workload
from freezekit.results.store import to_json

if TYPE_CHECKING:
    from pathlib import Path

ADD_ONE = """
import json, sys
from freezekit.results import figures
from freezekit.results.figures import Figure, Heading, Tracked

figures.FIGURES += (
    Figure(
        "process_bytes_again",
        "bytes",
        "A figure that was added for this test.",
        lambda _, row: row.memory.process_bytes,
        heading=Heading("most of the process", "process"),
        tracked=Tracked("process", "process-bytes"),
        compared=True,
    ),
)

from rich.console import Console
from freezekit.compare.pairing import pair
from freezekit.compare.show import comparison_markdown
from freezekit.gate.judge import Gate, judge
from freezekit.report.csv_table import render_csv
from freezekit.report.html.sorting import sortable
from freezekit.report.markdown import render_markdown
from freezekit.report.table import print_result
from freezekit.report.trackers import render_bencher, render_github_action
from freezekit.results.store import load

old, new = load(sys.argv[1]), load(sys.argv[2])
console = Console(width=120, record=True, file=sys.stderr)
print_result(new[0], console)
(judged,) = judge([Gate.read("process_bytes_again > full * 1.5")], new[0])
print(json.dumps({
    "table": console.export_text(),
    "markdown": render_markdown(new),
    "csv": render_csv(new),
    "gate": [judged.outcome, judged.reason],
    "html": [head.title for head in sortable(new[0]).heads],
    "github": json.loads(render_github_action(new)),
    "bencher": json.loads(render_bencher(new)),
    "compare": comparison_markdown(pair(old, new)[0]),
}))
"""


def test_each_is_named_once_and_explained() -> None:
    assert [n for n, count in Counter(f.name for f in FIGURES).items() if count > 1] == []
    assert [n for n, count in Counter(f.column for f in FIGURES).items() if count > 1] == []
    for figure in FIGURES:
        assert figure.explanation.endswith("."), figure.name
    held = {f"{name}" for name in Memory.__struct_fields__ if name != "peak_method"}
    assert held <= {figure.name for figure in FIGURES}, "each measured number can be shown"


def test_one_that_is_added_is_shown_everywhere(tmp_path: Path) -> None:
    for name, sizes in (("old", (2**20, 2**21)), ("new", (2**20, 2**22))):
        rows = tuple(
            Row(spec, memory=Memory(process_bytes=size))
            for spec, size in zip(("full", "head-only"), sizes, strict=True)
        )
        result = Result("0.1.0", Workload("timm:resnet18"), {}, rows, complete=True)
        (tmp_path / f"{name}.json").write_text(to_json([result]))
    files = [str(tmp_path / "old.json"), str(tmp_path / "new.json")]
    done = subprocess.run(
        [sys.executable, "-c", ADD_ONE, *files], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert "process" in said["table"].splitlines()[2]
    assert "4.00" in said["table"]
    assert "| strategy | most of the process, MiB |" in said["markdown"]
    header, _, line = said["csv"].splitlines()
    cells = dict(zip(header.split(","), line.split(","), strict=True))
    assert cells["process_bytes_again"] == str(2**22)
    assert said["gate"] == ["failed", "4.00 MiB > 1.50 MiB"]
    assert {"most of the process, MiB", "process_bytes_again"} <= set(said["html"])
    assert said["github"][-1] == {
        "name": "timm:resnet18 head-only: process",
        "unit": "bytes",
        "value": 2**22,
    }
    assert said["bencher"]["timm:resnet18 head-only"] == {"process-bytes": {"value": 2**22}}
    assert "| most of the process, MiB | most of the process, change |" in said["compare"]
    assert "| 4.00 | +100% |" in said["compare"]
