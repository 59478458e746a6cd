"""`--explain` prints what ten lines leave out, of a run and of a stored result."""

from __future__ import annotations

from pathlib import Path

import pytest

from freezekit.report.notes import notes
from freezekit.results.store import load
from tests.fork_server import run


def printed(*args: str) -> str:
    done = run(*args)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("explain", [False, True])
def test_a_run_prints_the_rest_on_request(tmp_path: Path, explain: bool) -> None:
    file = tmp_path / "r.json"
    args = ("timm:test_resnet", "-s", "batch-norm", "--static", "-o", str(file))
    said = printed("bench", *args, *(["--explain"] if explain else []))
    assert "- batch-norm frees " in said
    assert said.endswith("definitions: --explain\n") is not explain
    (result,) = load(file)
    flat = " ".join(said.split())
    assert all(note.text in flat for note in notes(result).all) is explain


def test_a_stored_result_is_explained_and_written(tmp_path: Path) -> None:
    stored = Path(__file__).parents[2] / "benchmarks" / "results" / "readme-bench.json"
    markdown = tmp_path / "r.md"
    said = printed("report", str(stored), str(stored), "--explain", "-o", str(markdown))
    assert markdown.read_text().count("| `head-only` |") == 2
    flat = " ".join(said.split())
    for note in notes(load(stored)[0]).all:
        assert flat.count(note.text) == 2
