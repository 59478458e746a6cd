"""The file of a sweep: read strictly, and told apart from other files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import jsonschema
import pytest
from msgspec.structs import replace

from freezekit.errors import OutputError
from freezekit.results.records import Result, Workload
from freezekit.results.store import from_json as bench_from_json
from freezekit.results.store import to_json as bench_to_json
from freezekit.sweep.answers import Answers
from freezekit.sweep.records import Candidate, Settings, SweepRow
from freezekit.sweep.run import SweepRun
from freezekit.sweep.store import from_json, load_sweep, sweep_schema, to_json
from tests.sweep.stand_in import InThisProcess, empty, work

if TYPE_CHECKING:
    from pathlib import Path

    from freezekit.sweep.records import Sweep


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    folder = tmp_path_factory.mktemp("sweep")
    rows = [
        SweepRow(Candidate("m", spec), spec, is_baseline=spec == "full")
        for spec in ("full", "head-only", "diverges")
    ]
    settings = Settings(4, (0, 1), lr_grid=(1e-3, 1e-2), rungs=(1, 2))
    how = work(Answers(folder / "answers"), folder / "log", InThisProcess())
    return SweepRun(empty(rows, settings), how).run()


def test_a_file_holds_all_of_a_sweep(sweep: Sweep, tmp_path: Path):
    path = tmp_path / "s.json"
    path.write_text(to_json(sweep))
    assert load_sweep(path) == sweep
    jsonschema.Draft202012Validator(sweep_schema()).validate(json.loads(path.read_text()))


def test_the_reader_comes_first(sweep: Sweep):
    assert list(json.loads(to_json(sweep)))[:5] == [
        "kind",
        "schema_version",
        "freezekit",
        "complete",
        "recommended",
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda text: "",
            "is empty: nothing was written to it; train again with --resume",
        ),
        (lambda text: text[:300], "'s.json' is cut off at line"),
        (lambda text: "[]", "'s.json' holds no result: its list is empty"),
        (lambda text: f"[{text}, {text}]", "'s.json' holds 2 sweeps; expected one"),
        (lambda text: "{}", "'s.json' is not a freezekit sweep: it lacks 'schema_version'"),
        (
            lambda text: text.replace('"epochs": 4', '"epochs": 0', 1),
            "epochs is 0: expected `int`",
        ),
        (
            lambda text: text.replace('"schema_version": 1', '"schema_version": 2'),
            "was written by a newer freezekit",
        ),
        (
            lambda text: text.replace('"label": "diverges"', '"label": "full"'),
            r"rows\[2\] is 'full', which rows\[0\] is too",
        ),
        (
            lambda text: text.replace('"is_baseline": true', '"is_baseline": false'),
            r"rows\[0\] has no baseline of its model",
        ),
    ],
)
def test_what_is_no_sweep_is_refused(sweep: Sweep, change, said: str):
    with pytest.raises(OutputError, match=said):
        from_json(change(to_json(sweep)), "s.json")


def test_files_of_other_commands_are_told_apart(sweep: Sweep):
    bench = bench_to_json([Result("0.1.0", Workload("timm:resnet18"), env={})])
    with pytest.raises(OutputError, match="not a freezekit sweep: it is of another command"):
        from_json(bench, "b.json")
    with pytest.raises(OutputError, match="result: it is what `freezekit sweep` wrote"):
        bench_from_json(to_json(sweep), "s.json")


def test_figures_that_are_not_finite_are_none(sweep: Sweep):
    odd = replace(sweep, env={"load": float("nan")})
    assert from_json(to_json(odd)).env == {"load": None}
